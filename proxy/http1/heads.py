"""The heads that the proxy writes: a request's towards a server, a response's towards a client."""

from __future__ import annotations

import random
from email.utils import formatdate

from meshd.model.listeners import HttpOptions
from proxy.http1.field_values import Field, without
from proxy.http1.refusal import reason_phrase
from proxy.http1.request import Request
from proxy.http1.response_parser import PERSISTENCE, Response
from proxy.requests import header_edit
from proxy.requests.header_edit import Edit

UPGRADE_TO_H2C = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"upgrade"))

_request_ids = random.Random()  # unique, not secret: a UUID of version 4 in form only


def new_request_id() -> str:
    """A random UUID in its text form (RFC 9562, 5.4)."""
    bits = _request_ids.getrandbits(128)
    bits = bits & ~(0xF000_C000 << 48) | (0x4000_8000 << 48)
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _append(fields: list[Field], at: int, name: bytes, value: bytes) -> None:
    """Append to a list-valued field, or add it."""
    if at < 0:
        fields.append((name, value))
    else:
        fields[at] = (fields[at][0], fields[at][1] + b", " + value if fields[at][1] else value)


def _edited(fields: list[Field], edit: Edit) -> list[Field]:
    """Apply a route's edit, which has no say about where a message ends."""
    framing = [field for field in fields if field[0].lower() in _FRAMING]
    rest = [field for field in fields if field[0].lower() not in _FRAMING]
    rest = [field for field in header_edit.apply(rest, edit) if field[0].lower() not in _FRAMING]
    return rest + framing


def request_fields(
    request: Request, host: str | None, edit: Edit, options: HttpOptions, caller: bytes
) -> list[Field]:
    """The request's fields for a server.

    ``host``: replaces Host; None: kept. ``caller``: the address that x-forwarded-for tells; empty: it tells
    none.
    """
    fields = request.fields.copy()
    if host is not None:
        field = (b"Host", host.encode())
        if request.host_at < 0:
            fields.append(field)
        else:
            fields[request.host_at] = field
    elif request.host_at < 0:
        fields.append((b"Host", request.head.host.encode()))  # HTTP/1.0 may lack it, 1.1 may not
    if options.forwarded_for and caller:
        _append(fields, request.forwarded_for, b"x-forwarded-for", caller)
    if options.forwarded_proto and request.forwarded_proto < 0:
        fields.append((b"x-forwarded-proto", b"http"))
    if options.request_id and request.request_id < 0:
        fields.append((b"x-request-id", new_request_id().encode()))
    if options.via:
        _append(fields, request.via, b"via", options.via.encode())
    if edit:
        fields = _edited(fields, edit)
    if request.upgrade:
        fields.append((b"Connection", b"Upgrade"))
        fields.append((b"Upgrade", request.upgrade))
    elif request.te_trailers:
        fields.append((b"Connection", b"TE"))
        fields.append((b"TE", b"trailers"))
    return fields


def request_head(method: str, target: str, fields: list[Field]) -> bytes:
    """The request's head for a server. ``target``: origin form."""
    return f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape") + _lines(fields)


def response_fields(
    response: Response, edit: Edit, options: HttpOptions, date: bytes, with_persistence: bool
) -> list[Field]:
    """A final response's fields for the client, but for what frames it there.

    ``date``: for a response that has none (RFC 9110, 6.6.1). ``with_persistence``: those that tell that the
    server's connection lives on are true of the client's, too.
    """
    fields = response.fields.copy()
    via_at = response.via
    if response.persistence and not with_persistence:
        fields = without(fields, PERSISTENCE)
        via_at = next((i for i, field in enumerate(fields) if field[0].lower() == b"via"), -1)
    if not response.has_date:
        fields.append((b"date", date))
    if edit:
        fields = _edited(fields, edit)
        via_at = next((i for i, field in enumerate(fields) if field[0].lower() == b"via"), -1)
    if options.via:
        _append(fields, via_at, b"via", options.via.encode())
    return fields


def response_head(
    response: Response,
    edit: Edit,
    options: HttpOptions,
    date: bytes,
    framing: Field | None,
    connection: bytes,
) -> bytes:
    """A final response's head for the client.

    ``date``: as response_fields'. ``framing``: tells how long the body is, if the response's own fields do
    not. ``connection``: the Connection field's value; empty: no such field.
    """
    fields = response_fields(response, edit, options, date, not connection)
    if framing is not None:
        fields.append(framing)
    if connection:
        fields.append((b"Connection", connection))
        if response.status == 101:
            fields.append((b"Upgrade", response.upgrade))
    return _status_line(response.status, response.reason) + _lines(fields)


CHUNKED_FIELD: Field = (b"Transfer-Encoding", b"chunked")
EMPTY_FIELD: Field = (b"content-length", b"0")


def interim_head(response: Response) -> bytes:
    """The head of a 1xx response that is not the last."""
    return _status_line(response.status, response.reason) + _lines(response.fields)


def _lines(fields: list[Field]) -> bytes:
    return b"".join([name + b": " + value + b"\r\n" for name, value in fields]) + b"\r\n"


def _status_line(status: int, reason: str) -> bytes:
    return f"HTTP/1.1 {status} {reason}\r\n".encode("utf-8", "surrogateescape")


def local_fields(status: int, headers: tuple[tuple[str, str], ...], body: bytes, date: bytes) -> list[Field]:
    """The fields of a response of the proxy's own."""
    fields = [
        (n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in headers if n.encode() not in _FRAMING
    ]
    if not any(name == b"date" for name, _ in fields):
        fields.append((b"date", date))
    fields.append((b"server", b"meshd"))
    if not is_bodiless(status):
        fields.append((b"content-length", b"%d" % len(body)))
    return fields


def is_bodiless(status: int) -> bool:
    """Whether a response of that status never has a body (RFC 9110, 6.4.1)."""
    return status < 200 or status in (204, 304)


def local_response(
    status: int,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    date: bytes,
    connection: bytes,
    with_body: bool,
) -> bytes:
    """A whole response of the proxy's own. ``with_body``: False for HEAD."""
    fields = local_fields(status, headers, body, date)
    if connection:
        fields.append((b"connection", connection))
    head = _status_line(status, reason_phrase(status)) + _lines(fields)
    return head + body if with_body and not is_bodiless(status) else head


def connection_value(keep_alive: bool, http10: bool) -> bytes:
    """A response's Connection field; empty: none is needed (RFC 9112, 9.3)."""
    if not keep_alive:
        return b"close"
    return b"keep-alive" if http10 else b""


PLAIN_TEXT = (("content-type", "text/plain; charset=utf-8"),)


def message_body(message: str) -> bytes:
    """The body by which the proxy says what is wrong."""
    return f"meshd: {message}\n".encode("utf-8", "replace")


def http_date(seconds: float) -> bytes:
    """A time since the epoch as fields write it (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True).encode()
