"""What an HTTP/2 request's head says, by the same rules as an HTTP/1.1 one's. No I/O.

libnghttp2 has seen to it that the head is well formed (RFC 9113, 8.2 and 8.3): names in lower case, each
pseudo-header field there once and first, nothing that belongs to one HTTP/1.1 connection.
"""

from __future__ import annotations

from collections.abc import Sequence

from multidict import CIMultiDict

from proxy.http1 import websocket
from proxy.http1.body import CONTENT
from proxy.http1.field_values import Field, is_host, joined
from proxy.http1.head_cache import HeadCache
from proxy.http1.refusal import Refusal
from proxy.http1.request import PROTOCOL_ERROR, Request, malformed
from proxy.http1.request_decision import MAX_TARGET_BYTES
from proxy.requests.request_head import RequestHead
from proxy.telemetry import response_flags

_SCHEMES = (b"http", b"https")


class RequestDecisions:
    """Turns heads into Requests. What it makes of a head depends on no other head."""

    __slots__ = ("_cache",)

    def __init__(self) -> None:
        self._cache: HeadCache[Request] = HeadCache()

    def decide(self, fields: Sequence[Field], ended: bool) -> Request:
        """A request from its head. ``ended``: it has neither content nor trailers. Raises Refusal."""
        # No name and no value has a line's end in it, so nothing else reads the same.
        key = b"\n".join([part for field in fields for part in field])
        if ended:
            key += b"\n"
        request = self._cache.get(key)
        if request is None:
            request = decide(fields, ended)
            if not request.upgrade:  # else its key is its own
                self._cache.put(key, request)
        return request


def decide(fields: Sequence[Field], ended: bool) -> Request:
    """As RequestDecisions.decide."""
    request = Request()
    request.http2 = True
    request.length = 0 if ended else CONTENT
    pseudo: dict[bytes, bytes] = {}
    cookies: list[bytes] = []
    cookie_at = -1
    hosts: list[bytes] = []
    kept = request.fields = [(b"host", b"")]
    request.host_at = 0
    for field in fields:
        name, value = field
        if name not in _SPECIAL:
            if name[0] != _COLON:
                kept.append(field)
            else:
                pseudo[name] = value
        elif name == b"host":
            hosts.append(value)
        elif name == b"cookie":
            if not cookies:
                cookie_at = len(kept)
                kept.append(field)
            cookies.append(value)
        elif name == b"x-forwarded-for":
            request.forwarded_for = joined(kept, request.forwarded_for, field)
        elif name == b"via":
            request.via = joined(kept, request.via, field)
        elif name == b"x-request-id":
            request.request_id = len(kept)
            kept.append(field)
        elif name == b"x-forwarded-proto":
            request.forwarded_proto = len(kept)
            kept.append(field)
        elif name == b"te":
            request.te_trailers = True  # nothing else may be in it (RFC 9113, 8.2.2)
        elif name == b"expect":
            request.expects_continue = value.lower() == b"100-continue"
            kept.append(field)
    if len(cookies) > 1:
        kept[cookie_at] = (b"cookie", b"; ".join(cookies))  # RFC 9113, 8.2.3
    _target(request, pseudo, hosts)
    return request


_COLON = ord(":")
_SPECIAL = frozenset(
    (b"host", b"cookie", b"x-forwarded-for", b"via", b"x-request-id", b"x-forwarded-proto", b"te", b"expect")
)


def _target(request: Request, pseudo: dict[bytes, bytes], hosts: list[bytes]) -> None:
    method = pseudo[b":method"].decode("ascii")
    protocol = pseudo.get(b":protocol")
    if method == "CONNECT":
        if protocol is None:
            raise Refusal(501, "CONNECT is not offered here", PROTOCOL_ERROR, response_flags.INVALID_URL)
        # RFC 8441: what HTTP/1.1 calls an upgrade. It is a GET there, and to whoever decides about it.
        method = "GET"
        request.upgrade = protocol
        request.length = 0
        if protocol == b"websocket":
            # HTTP/1.1 has a handshake that HTTP/2 can do without.
            request.fields = [field for field in request.fields if field[0] != websocket.KEY]
            request.fields.append((websocket.KEY, websocket.new_key()))
    authority = _authority(pseudo, hosts)
    request.fields[0] = (b"host", authority)
    if pseudo[b":scheme"].lower() not in _SCHEMES:
        raise malformed("the request's target has a scheme other than http", response_flags.INVALID_URL)
    raw = pseudo[b":path"]
    if len(raw) > MAX_TARGET_BYTES:
        message = f"the request's target is over {MAX_TARGET_BYTES} bytes"
        raise Refusal(414, message, PROTOCOL_ERROR, response_flags.INVALID_URL)
    if b"#" in raw:
        raise malformed("the request's target has a fragment", response_flags.INVALID_URL)
    target = request.target = raw.decode("utf-8", "surrogateescape")
    path, mark, query = target.partition("?")
    headers: CIMultiDict[str] = CIMultiDict(
        [(name.decode("ascii"), value.decode("utf-8", "surrogateescape")) for name, value in request.fields]
    )
    request.head = RequestHead(method, path, query if mark else None, authority.decode(), headers)


def _authority(pseudo: dict[bytes, bytes], hosts: list[bytes]) -> bytes:
    """RFC 9113, 8.3.1: what :authority says; a Host field beside it must say the same."""
    authority = pseudo.get(b":authority")
    if authority is None:
        if len(hosts) != 1:
            raise malformed(
                "the request has no :authority, and no Host field or more than one",
                response_flags.MISSING_HOST,
            )
        authority = hosts[0]
    elif any(host.lower() != authority.lower() for host in hosts):
        raise malformed(
            "the request's Host field is another one than its :authority", response_flags.INVALID_URL
        )
    if not is_host(authority):
        raise malformed("the request's :authority is malformed", response_flags.INVALID_URL)
    return authority
