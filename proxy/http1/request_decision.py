"""What a request's head says, by strict rules: its framing, its target, and what of it goes on."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from multidict import MultiMapping

from proxy.http1.body import CHUNKED
from proxy.http1.field_values import HOP_BY_HOP, Field, content_length, is_host, joined, tokens, without
from proxy.http1.refusal import Refusal
from proxy.http1.request import PROTOCOL_ERROR, Request, malformed, version_refusal
from proxy.requests.request_head import RequestHead
from proxy.telemetry import response_flags

MAX_TARGET_BYTES = 32 * 1024


class Message(Protocol):
    """What the C parser makes of a request's head."""

    method: str
    path: str
    version: tuple[int, int]
    headers: MultiMapping[str]
    raw_headers: tuple[Field, ...]
    should_close: bool


def decide(message: Message) -> Request:
    """A request from its head, if there is but one way to read it. Raises Refusal."""
    request = Request()
    version = message.version
    if version != (1, 1):
        if version != (1, 0):
            raise version_refusal()
        request.http10 = True
        request.keep_alive = False
    fields = request.fields
    lengths = codings = hosts = 0
    host = coding = b""
    length: int | None = None
    connection: tuple[bytes, ...] = ()
    persistent_at = 0
    persistent: Field = (b"", b"")
    upgrade = te = b""
    http2_settings: list[bytes] = []
    for field in message.raw_headers:
        name = field[0].lower()
        if name not in _SPECIAL:
            fields.append(field)
        elif name == b"host":
            hosts += 1
            host = field[1]
            request.host_at = len(fields)
            fields.append(field)
        elif name == b"connection":
            connection += tokens(field[1])
            persistent_at = len(fields)
            persistent = field
        elif name == b"content-length":
            lengths += 1
            length = content_length(field[1])
            fields.append(field)
        elif name == b"transfer-encoding":
            codings += 1
            coding = coding + b"," + field[1] if codings > 1 else field[1]
            fields.append((field[0], b"chunked"))
        elif name == b"x-forwarded-for":
            request.forwarded_for = joined(fields, request.forwarded_for, field)
        elif name == b"via":
            request.via = joined(fields, request.via, field)
        elif name == b"x-request-id":
            request.request_id = len(fields)
            fields.append(field)
        elif name == b"x-forwarded-proto":
            request.forwarded_proto = len(fields)
            fields.append(field)
        elif name == b"upgrade":
            upgrade = upgrade + b", " + field[1] if upgrade else field[1]
        elif name == b"te":
            te += b"," + field[1]
        elif name == b"http2-settings":
            http2_settings.append(field[1])
        elif name == b"expect":
            request.expects_continue = field[1].lower() == b"100-continue"
            fields.append(field)
    if hosts > 1 or (hosts == 0 and not request.http10):
        raise malformed("the request has no Host field, or more than one", response_flags.MISSING_HOST)
    if lengths or codings:
        _frame(request, lengths, length, codings, coding)
    if te:
        request.te_trailers = b"trailers" in tokens(te)
    if connection:
        if request.http10 or connection != _KEEP_ALIVE:
            _apply_connection(request, connection, upgrade)
            if http2_settings:
                _offer_http2(request, connection, upgrade, http2_settings)
        elif persistent[1].lower() == b"keep-alive" and not request.te_trailers:
            _insert(request, persistent_at, persistent)
    _target(request, message, host)
    return request


_KEEP_ALIVE = (b"keep-alive",)
"""What many HTTP/1.1 clients still say, and what means nothing there (RFC 9112, 9.3: a connection persists).
It is as true of our connection to the server, so it stays, as it does in what the kernel carries."""
_PLACES = ("host_at", "forwarded_for", "forwarded_proto", "request_id", "via")
"""Attributes of a Request that are places among its fields."""
_SPECIAL = frozenset(
    (
        *(
            b"host",
            b"connection",
            b"keep-alive",
            b"proxy-connection",
            b"content-length",
            b"transfer-encoding",
        ),
        *(b"upgrade", b"te", b"expect", b"via", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id"),
        b"http2-settings",
    )
)


def _insert(request: Request, at: int, field: Field) -> None:
    request.fields.insert(at, field)
    for name in _PLACES:
        if getattr(request, name) >= at:
            setattr(request, name, getattr(request, name) + 1)


def _frame(request: Request, lengths: int, length: int | None, codings: int, coding: bytes) -> None:
    """Where the body ends (RFC 9112, 6.3). What another parser might read differently is refused."""
    if lengths and codings:
        raise malformed(
            "the request has both Content-Length and Transfer-Encoding", response_flags.LENGTH_AND_CHUNKED
        )
    if lengths:
        if lengths > 1 or length is None:
            raise malformed("the request's Content-Length is not one number")
        request.length = length
        return
    if request.http10:
        raise malformed("HTTP/1.0 has no Transfer-Encoding", response_flags.INVALID_TRANSFER_ENCODING)
    names = tokens(coding)
    if names == (b"chunked",) and codings == 1:
        request.length = CHUNKED
    elif names[-1:] != (b"chunked",) or names.count(b"chunked") > 1:
        raise malformed(
            "the request's Transfer-Encoding does not end with one chunked",
            response_flags.INVALID_TRANSFER_ENCODING,
        )
    else:
        raise Refusal(
            501,
            "no transfer coding but chunked is known here",
            PROTOCOL_ERROR,
            response_flags.INVALID_TRANSFER_ENCODING,
        )


_NOT_NOMINABLE = frozenset((b"close", b"host", b"content-length", b"expect", b"x-request-id", b"via"))
"""Connection options that name no field to drop: a client must not take routing or framing away."""


def _apply_connection(request: Request, options: tuple[bytes, ...], upgrade: bytes) -> None:
    if b"close" in options:
        request.keep_alive = False
    elif request.http10 and b"keep-alive" in options:
        request.keep_alive = True
    if upgrade and b"upgrade" in options and not request.http10:
        # h2c to a server would be a connection of many requests that nobody here sees.
        offered = [p.strip(b" \t") for p in upgrade.split(b",")]
        request.upgrade = b", ".join(p for p in offered if p and p.lower() != b"h2c")
    nominated = frozenset(options) - HOP_BY_HOP - _NOT_NOMINABLE
    nominated -= {b"x-forwarded-for", b"x-forwarded-proto"}
    if nominated:
        special = [
            None if at < 0 else request.fields[at]
            for at in (
                request.host_at,
                request.forwarded_for,
                request.forwarded_proto,
                request.request_id,
                request.via,
            )
        ]
        request.fields = without(request.fields, nominated)
        places = {id(field): at for at, field in enumerate(request.fields)}
        (
            request.host_at,
            request.forwarded_for,
            request.forwarded_proto,
            request.request_id,
            request.via,
        ) = (-1 if field is None else places[id(field)] for field in special)


def _offer_http2(request: Request, options: tuple[bytes, ...], upgrade: bytes, settings: list[bytes]) -> None:
    """RFC 7540, 3.2 and 3.2.1: what is not offered as it says there is as good as not offered."""
    if request.http10 or b"h2c" not in tokens(upgrade) or len(settings) != 1:
        return
    if b"upgrade" not in options or b"http2-settings" not in options:
        return
    text = settings[0].rstrip(b"=")
    try:
        payload = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
    except binascii.Error:
        return
    if len(payload) % _SETTING_BYTES == 0 and len(payload) <= _MAX_SETTINGS * _SETTING_BYTES:
        request.h2c = payload


_SETTING_BYTES = 6  # RFC 9113, 6.5.1
_MAX_SETTINGS = 32


def _target(request: Request, message: Message, host: bytes) -> None:
    target = request.target = message.path
    if len(target) > MAX_TARGET_BYTES:
        raise Refusal(
            414,
            f"the request's target is over {MAX_TARGET_BYTES} bytes",
            PROTOCOL_ERROR,
            response_flags.INVALID_URL,
        )
    if not is_host(host):
        raise malformed("the request's Host field is malformed", response_flags.INVALID_URL)
    authority = host.decode()
    if target[0] != "/" and target != "*":
        if message.method == "CONNECT":
            raise Refusal(501, "CONNECT is not offered here", PROTOCOL_ERROR, response_flags.INVALID_URL)
        target, authority = _absolute(target)
        # The target's authority replaces Host (RFC 9112, 3.2.2).
        replaced = (b"Host", authority.encode())
        if request.host_at < 0:
            _insert(request, 0, replaced)
            request.host_at = 0
        else:
            request.fields[request.host_at] = replaced
    if "#" in target:
        raise malformed("the request's target has a fragment", response_flags.INVALID_URL)
    path, mark, query = target.partition("?")
    request.head = RequestHead(message.method, path, query if mark else None, authority, message.headers)


def _absolute(target: str) -> tuple[str, str]:
    """Origin form and authority of an absolute-form target."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise malformed("the request's target has a scheme other than http", response_flags.INVALID_URL)
    end = next((i for i, c in enumerate(rest) if c in "/?#"), len(rest))
    authority, origin = rest[:end], rest[end:]
    if not authority or not is_host(authority.encode("utf-8", "surrogateescape")):
        raise malformed("the request's target has a malformed authority", response_flags.INVALID_URL)
    return (origin if origin.startswith("/") else "/" + origin), authority
