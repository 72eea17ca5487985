"""Session and its xDS counterpart, the stateful session filter's config of a route."""

from __future__ import annotations

from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2

from meshd.model.request_policies import Session, SessionCookie, SessionHeader
from meshd.xds.packing import duration, pack, seconds, unpack
from meshd.xds.unsupported import UnsupportedError, only

_COOKIE = "envoy.http.stateful_session.cookie"
_HEADER = "envoy.http.stateful_session.header"


def write(model: Session) -> stateful_session_pb2.StatefulSessionPerRoute:
    """The config of a route whose sessions stay with an endpoint."""
    message = stateful_session_pb2.StatefulSessionPerRoute()
    state = message.stateful_session.session_state
    if isinstance(model, SessionHeader):
        state.name = _HEADER
        state.typed_config.CopyFrom(pack(header_pb2.HeaderBasedSessionState(name=model.name)))
        return message
    cookie = cookie_pb2.CookieBasedSessionState()
    cookie.cookie.name, cookie.cookie.path = model.name, model.path
    # Set, 0 too: "to use a session cookie" (type.http.v3.Cookie.ttl).
    cookie.cookie.ttl.CopyFrom(duration(model.ttl))
    state.name = _COOKIE
    state.typed_config.CopyFrom(pack(cookie))
    return message


def read(message: stateful_session_pb2.StatefulSessionPerRoute, name: str, where: str) -> Session | None:
    """The reverse of ``write``; None where sessions are off. Raises UnsupportedError."""
    only(message, {"disabled", "stateful_session"}, name, where)
    if message.disabled:
        return None
    where = f"{where}.stateful_session"
    only(message.stateful_session, {"session_state", "stat_prefix"}, name, where)
    state = message.stateful_session.session_state
    where = f"{where}.session_state"
    if not message.stateful_session.HasField("session_state"):
        return None
    where = f"{where}.typed_config"
    header = header_pb2.HeaderBasedSessionState()
    if state.typed_config.Is(header.DESCRIPTOR):
        unpack(state.typed_config, header, name, where)
        only(header, {"name"}, name, where)
        return SessionHeader(name=header.name.lower())
    cookie = cookie_pb2.CookieBasedSessionState()
    unpack(state.typed_config, cookie, name, where)
    only(cookie, {"cookie"}, name, where)
    only(cookie.cookie, {"name", "ttl", "path"}, name, f"{where}.cookie")
    if not cookie.cookie.name:
        raise UnsupportedError(name, f"{where}.cookie.name", "must be set")
    return SessionCookie(
        name=cookie.cookie.name, path=cookie.cookie.path, ttl=seconds(cookie.cookie, "ttl", 0.0)
    )
