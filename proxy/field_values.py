"""Small decisions on field values that requests and responses share."""

from __future__ import annotations

import functools
import re

Field = tuple[bytes, bytes]
"""A field's name as it came, and its value without the whitespace around it."""

MAX_BODY_LENGTH = 2**63 - 1
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""Fields for one connection (RFC 9110, 7.6.1). Each is decided anew for the next connection."""

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


@functools.lru_cache(maxsize=1024)
def tokens(value: bytes) -> tuple[bytes, ...]:
    """The members of a comma-separated list, in lower case, empty ones left out (RFC 9110, 5.6.1)."""
    return tuple(token for part in value.lower().split(b",") if (token := part.strip(b" \t")))


def content_length(value: bytes) -> int | None:
    """A Content-Length's number; None for anything but digits (RFC 9110, 8.6) and for 2**63 and above."""
    if not value.isdigit() or len(value) > 19:
        return None
    length = int(value)
    return length if length <= MAX_BODY_LENGTH else None


@functools.lru_cache(maxsize=1024)
def is_host(value: bytes) -> bool:
    """Whether ``value`` is a host with an optional port (RFC 3986, 3.2.2), or empty (RFC 9110, 7.2)."""
    return _HOST.fullmatch(value) is not None


def without(fields: list[Field], names: frozenset[bytes]) -> list[Field]:
    """The fields whose names (lower case) are not among ``names``."""
    return [field for field in fields if field[0].lower() not in names]
