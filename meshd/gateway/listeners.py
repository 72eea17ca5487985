"""A service port that is called by an address: its listener, and the routes of all its callers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.gateway import options
from meshd.gateway.options import ServiceOptions
from meshd.gateway.policies import Merged
from meshd.gateway.protocols import http_version, protocol
from meshd.gateway.retries import CONNECT_RETRY
from meshd.gateway.shaping import Shaping, rate_limit
from meshd.kube.objects import Service, ServicePort
from meshd.kube.routepolicy import RoutePolicySpec
from meshd.model.clusters import HttpVersion
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.request_policies import RateLimit
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.tcp_routes import TcpRoute

DEFAULT_ROUTE = "default"
"""Name of the route of an HTTP port that no route is attached to: all to the service's own endpoints."""
Routes = Mapping[str, tuple[Route, ...]]
"""By the namespace whose callers they are for; "": all that have none of their own."""


def listener(
    service: Service,
    port: ServicePort,
    addresses: tuple[str, ...],
    attached: Routes,
    connections: Mapping[str, tuple[TcpRoute, ...]],
    policies: Merged[RoutePolicySpec],
    shaping: Shaping,
    said: ServiceOptions,
) -> tuple[Listener, tuple[RouteConfig, ...]]:
    """``attached``: those of HTTPRoutes or GRPCRoutes. ``policies``: those for the port.

    ``connections``: those of TLSRoutes or TCPRoutes, by consumer. A port has but one of both.
    """
    key = service.metadata.namespace, service.metadata.name
    full_name = "/".join(key)
    name = f"{full_name}:{port.port}"
    if connections or protocol(port, bool(attached)) is not Protocol.HTTP:
        opaque = Listener(
            name=name,
            service=full_name,
            addresses=addresses,
            port=port.port,
            protocol=Protocol.TCP,
            cluster=name,
            tcp_routes=connections.get("", ()),
            tcp_consumers=tuple((each, routes) for each, routes in sorted(connections.items()) if each),
            failure_policy=said.failure_policy,
            tcp_fast_path=said.tcp_fast_path,
        )
        if opaque.is_relayed:
            opaque = msgspec.structs.replace(
                opaque,
                failure_policy=options.failure_policy_of(policies, said.failure_policy),
                http=HttpOptions(
                    access_log_share=options.http_options_of(policies, said.http).access_log_share
                ),
            )
        return opaque, ()
    own = attached.get("") or (shaping.of_port(_default_route(name, port), (key, port.port)),)
    fast_path, routes = _fast_path({**attached, "": own})
    consumers = tuple((each, f"{name}/from/{each}") for each in attached if each)
    found = Listener(
        name=name,
        service=full_name,
        addresses=addresses,
        port=port.port,
        protocol=Protocol.HTTP,
        cluster=name,
        route_config=name,
        consumers=consumers,
        failure_policy=options.failure_policy_of(policies, said.failure_policy),
        http=options.http_options_of(policies, said.http),
        fast_path=fast_path,
        http2_fast_path=said.http2_fast_path,
    )
    limit = rate_limit(policies.spec.rate_limit) if policies.spec is not None else None
    return found, tuple(
        _route_config(config, routes[namespace], limit) for namespace, config in (("", name), *consumers)
    )


def _route_config(name: str, routes: tuple[Route, ...], limit: RateLimit | None) -> RouteConfig:
    return RouteConfig(name=name, virtual_hosts=(VirtualHost(name=name, routes=routes, rate_limit=limit),))


def _default_route(name: str, port: ServicePort) -> Route:
    """What speaks HTTP/2 may well be gRPC."""
    deadline_limit = 0.0 if http_version(port) is HttpVersion.HTTP2 else None
    forward = Forward(
        clusters=(WeightedCluster(name=name),), retry=CONNECT_RETRY, deadline_limit=deadline_limit
    )
    return Route(name=DEFAULT_ROUTE, action=forward)


def _fast_path(routes: Routes) -> tuple[bool, Routes]:
    """Whether any route may take the fast path; where none may, it is the listener that says so."""
    if any(route.fast_path for several in routes.values() for route in several):
        return True, routes
    return False, {
        each: tuple(msgspec.structs.replace(route, fast_path=True) for route in several)
        for each, several in routes.items()
    }
