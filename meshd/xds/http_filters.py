"""The HTTP filters of a listener, and what its routes say to them (typed_per_filter_config).

A listener has them all, in the order in which our proxy does the same, and all disabled: the config of a
route enables a filter for its requests (HttpFilter.disabled). So no listener changes, and no connection with
it, when a route begins to use one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from meshd.model.request_policies import Cors, Fault, RateLimit, Session
from meshd.model.routes import Forward, Route, VirtualHost
from meshd.xds.packing import pack, unpack
from meshd.xds.policies import cors, faults, rate_limits, sessions
from meshd.xds.unsupported import UnsupportedError, only

_HttpFilter = http_connection_manager_pb2.HttpFilter
CORS = "envoy.filters.http.cors"
FAULT = "envoy.filters.http.fault"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
SESSION = "envoy.filters.http.stateful_session"
ROUTER = "envoy.filters.http.router"
_STAT_PREFIX = "http_local_rate_limiter"
_M = TypeVar("_M", bound=Message)

_IDLE: dict[str, Message] = {
    CORS: cors_pb2.Cors(),
    FAULT: fault_pb2.HTTPFault(),
    RATE_LIMIT: local_rate_limit_pb2.LocalRateLimit(stat_prefix=_STAT_PREFIX),
    SESSION: stateful_session_pb2.StatefulSession(),
    ROUTER: router_pb2.Router(),
}
"""The filters in their order, with a config by which each does nothing until a route says what."""
_ORDER = tuple(_IDLE)
OF_ROUTES = frozenset((CORS, FAULT, RATE_LIMIT, SESSION))
"""Those that a route may have something for."""
_WITHOUT_MEANING = {RATE_LIMIT: {"stat_prefix"}, SESSION: {"stat_prefix"}, ROUTER: {"suppress_envoy_headers"}}
"""Fields of the idle config that may be set nevertheless."""


def chain() -> list[http_connection_manager_pb2.HttpFilter]:
    """A listener's filters."""
    return [
        _HttpFilter(name=name, typed_config=pack(config), disabled=name != ROUTER)
        for name, config in _IDLE.items()
    ]


def read_chain(filters: Sequence[http_connection_manager_pb2.HttpFilter], name: str, where: str) -> None:
    """Refuse filters that are not known, in another order, or that do something on all routes.

    Raises UnsupportedError.
    """
    by_type = {message.DESCRIPTOR.full_name: kind for kind, message in _IDLE.items()}
    last = -1
    for i, each in enumerate(filters):
        here = f"{where}[{i}]"
        only(each, {"name", "typed_config", "disabled"}, name, here)
        kind = by_type.get(each.typed_config.TypeName())
        if kind is None:
            holds = each.typed_config.type_url or "nothing"
            raise UnsupportedError(name, f"{here}.typed_config", f"holds {holds}")
        config = type(_IDLE[kind])()
        unpack(each.typed_config, config, name, f"{here}.typed_config")
        only(config, _WITHOUT_MEANING.get(kind, set()), name, f"{here}.typed_config")
        if kind == ROUTER and each.disabled:
            raise UnsupportedError(name, f"{here}.disabled", "only false for the router")
        if each.name != kind and kind != ROUTER:
            # The routes' configs go by this name.
            raise UnsupportedError(name, f"{here}.name", f"must be {kind}")
        if _ORDER.index(kind) <= last:
            raise UnsupportedError(name, here, f"the order must be {', '.join(_ORDER)}, each once")
        last = _ORDER.index(kind)
    if not filters or last != _ORDER.index(ROUTER):
        raise UnsupportedError(name, where, f"must end with {ROUTER}")


@dataclass(frozen=True, slots=True)
class Policies:
    """What a route or a virtual host has for the filters."""

    cors: Cors | None = None
    fault: Fault | None = None
    rate_limit: RateLimit | None = None
    session: Session | None = None


def of_route(route: Route) -> Policies:
    """What a route has."""
    session = route.action.session if isinstance(route.action, Forward) else None
    return Policies(route.cors, route.fault, route.rate_limit, session)


def of_host(host: VirtualHost) -> Policies:
    """What a virtual host has."""
    return Policies(rate_limit=host.rate_limit)


def configs(policies: Policies) -> dict[str, any_pb2.Any]:
    """typed_per_filter_config for these policies. Raises ValueError for one that contradicts itself."""
    found: dict[str, any_pb2.Any] = {}
    if policies.cors is not None:
        found[CORS] = pack(cors.write(policies.cors))
    if policies.fault is not None:
        found[FAULT] = pack(faults.write(policies.fault))
    if policies.rate_limit is not None:
        found[RATE_LIMIT] = pack(rate_limits.write(policies.rate_limit, _STAT_PREFIX))
    if policies.session is not None:
        found[SESSION] = pack(sessions.write(policies.session))
    return found


def read_configs(given: Mapping[str, any_pb2.Any], known: Set[str], name: str, where: str) -> Policies:
    """The reverse of ``configs``; only filters that are ``known`` may have one. Raises UnsupportedError."""
    where = f"{where}.typed_per_filter_config"
    for kind in given:
        if kind not in known:
            raise UnsupportedError(name, f"{where}[{kind}]", "not supported")

    def unpacked(kind: str, into: _M) -> _M:
        unpack(given[kind], into, name, f"{where}[{kind}]")
        return into

    return Policies(
        cors=cors.read(unpacked(CORS, cors_pb2.CorsPolicy()), name, f"{where}[{CORS}]")
        if CORS in given
        else None,
        fault=faults.read(unpacked(FAULT, fault_pb2.HTTPFault()), name, f"{where}[{FAULT}]")
        if FAULT in given
        else None,
        rate_limit=rate_limits.read(
            unpacked(RATE_LIMIT, local_rate_limit_pb2.LocalRateLimit()), name, f"{where}[{RATE_LIMIT}]"
        )
        if RATE_LIMIT in given
        else None,
        session=sessions.read(
            unpacked(SESSION, stateful_session_pb2.StatefulSessionPerRoute()), name, f"{where}[{SESSION}]"
        )
        if SESSION in given
        else None,
    )
