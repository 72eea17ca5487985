"""Session persistence (GEP-1619): the client itself tells which endpoint its session is with.

It tells it in the form of Envoy's stateful_session filter, so that a session goes on where meshd takes a
client over from an Envoy, or an Envoy from meshd.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from meshd.model.levels import Address
from meshd.model.request_policies import Session, SessionCookie
from meshd.model.routes import HeaderEdit
from proxy.balancing.cookies import cookie_value, set_cookie
from proxy.balancing.hash_tables import address_text
from proxy.requests.request_head import RequestHead

_ADDRESS, _EXPIRES = 0x0A, 0x10
"""Tags of the protobuf message in the cookie: 1, a string; 2, a varint."""
_VARINT_BYTES = 10


def session_of(session: Session, request: RequestHead, time: float) -> Address | None:
    """The endpoint that a request's session is with; None: it has none that is still good.

    ``time``: seconds since the epoch.
    """
    if not isinstance(session, SessionCookie):
        return _parsed(_decoded(request.headers.get(session.name, "")))
    if not _is_for(session.path, request.path):
        return None
    ticket = _ticket(_decoded(cookie_value(request.headers, session.name)))
    if ticket is None or 0 < ticket.expires < int(time):
        return None
    return _parsed(ticket.address)


def session_edit(session: Session, path: str, address: Address, time: float) -> HeaderEdit:
    """What tells a client, in an answer to a request for ``path``, the endpoint that its session is with."""
    text = address_text(*address)
    if not isinstance(session, SessionCookie):
        return HeaderEdit(set=((session.name, base64.b64encode(text).decode()),))
    if not _is_for(session.path, path):
        return HeaderEdit()
    expires = int(time) + int(session.ttl) if session.ttl else 0
    value = base64.b64encode(_message(Ticket(text, expires))).decode()
    return HeaderEdit(add=(("set-cookie", set_cookie(session.name, value, session.path, session.ttl)),))


def _is_for(cookie_path: str, path: str) -> bool:
    """Whether a client sends a cookie with a request (RFC 6265, 5.1.4)."""
    if cookie_path in ("", "/"):
        return True
    if not path.startswith(cookie_path):
        return False
    return cookie_path.endswith("/") or path[len(cookie_path) : len(cookie_path) + 1] in ("", "/")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except binascii.Error:
        return b""


def _parsed(text: bytes) -> Address | None:
    address, _, port = text.decode("ascii", "replace").rpartition(":")
    if not (address and port.isdecimal() and len(port) <= 5):
        return None
    return address.removeprefix("[").removesuffix("]"), int(port)


class Ticket(NamedTuple):
    """What the cookie holds (envoy.Cookie)."""

    address: bytes
    expires: int
    """Seconds since the epoch; 0: never."""


def _message(ticket: Ticket) -> bytes:
    """Address and expiry as a protobuf message. ``ticket``: of an address of at most 127 bytes."""
    data = bytes((_ADDRESS, len(ticket.address))) + ticket.address
    if ticket.expires:
        data += bytes((_EXPIRES,)) + _varint(ticket.expires)
    return data


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _ticket(data: bytes) -> Ticket | None:
    """None: not such a message."""
    address, expires, at = b"", 0, 0
    while at < len(data):
        tag = data[at]
        number, at = _read_varint(data, at + 1)
        if number is None:
            return None
        if tag == _EXPIRES:
            expires = number
        elif tag == _ADDRESS and at + number <= len(data):
            address, at = data[at : at + number], at + number
        else:
            return None
    return Ticket(address, expires) if address else None


def _read_varint(data: bytes, at: int) -> tuple[int | None, int]:
    """A number and where it ends; None: it has no end."""
    number = 0
    for i, byte in enumerate(data[at : at + _VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return number, at + i + 1
    return None, at
