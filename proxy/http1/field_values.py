"""Small decisions on field values that requests and responses share."""

from __future__ import annotations

import functools
import re

Field = tuple[bytes, bytes]
"""A field's name as it came, and its value without the whitespace around it."""

MAX_BODY_LENGTH = 2**63 - 1
MAX_HOST_BYTES = 300
"""A DNS name has at most 253, and then there is the port."""
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade")
)
"""Fields for one connection (RFC 9110, 7.6.1). Each is decided anew for the next connection."""

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=%]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


def tokens(value: bytes) -> tuple[bytes, ...]:
    """The members of a comma-separated list, in lower case, empty ones left out (RFC 9110, 5.6.1)."""
    return _known_tokens(value) if len(value) <= _MAX_KNOWN_BYTES else _tokens(value)


def _tokens(value: bytes) -> tuple[bytes, ...]:
    return tuple(token for part in value.lower().split(b",") if (token := part.strip(b" \t")))


# What clients choose is remembered only while it is short: the caches are to stay small.
_MAX_KNOWN_BYTES = 64
_known_tokens = functools.lru_cache(maxsize=512)(_tokens)


def content_length(value: bytes) -> int | None:
    """A Content-Length's number; None for anything but digits (RFC 9110, 8.6) and for 2**63 and above."""
    if not value.isdigit() or len(value) > 19:
        return None
    length = int(value)
    return length if length <= MAX_BODY_LENGTH else None


def is_host(value: bytes) -> bool:
    """Whether ``value`` is a host with an optional port (RFC 3986, 3.2.2), or empty (RFC 9110, 7.2)."""
    return len(value) <= MAX_HOST_BYTES and _is_host(value)


@functools.lru_cache(maxsize=512)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def joined(fields: list[Field], at: int, field: Field) -> int:
    """Keep a list-valued field in one place: a second line of it joins the first (RFC 9110, 5.3).

    ``at``: where that is; negative: this is the first. Returns where it is now.
    """
    if at < 0:
        fields.append(field)
        return len(fields) - 1
    fields[at] = (fields[at][0], fields[at][1] + b", " + field[1])
    return at


def without(fields: list[Field], names: frozenset[bytes]) -> list[Field]:
    """The fields whose names (lower case) are not among ``names``."""
    return [field for field in fields if field[0].lower() not in names]
