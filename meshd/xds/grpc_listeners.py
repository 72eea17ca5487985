"""Services as gRPC's own xDS clients look for them: ``xds:///web.default.svc.cluster.local:8080``.

Such a client asks for a listener of the name in its target, and wants in it the routes that it shall follow
itself (gRPC proposal A27). Of these it knows matches, clusters and their shares, timeouts and hash policies
(A28, A31, A42); what else a route says is for a proxy, and left out. A route that changes the path or the
host, or does not forward, cannot be followed: calls that match it fail (A36).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from meshd.model.listeners import Listener, Protocol
from meshd.model.request_policies import MILLION
from meshd.model.routes import (
    Forward,
    PathExact,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.xds import encode_route
from meshd.xds.http_filters import ROUTER
from meshd.xds.packing import duration, pack
from meshd.xds.resources import LISTENER, ROUTE_CONFIG, Resource, ResourceSet
from meshd.xds.resources import pack as pack_resource

AGENT = "gRPC "
"""How the ``user_agent_name`` of such clients begins, in all languages."""
_DOMAINS = ((), ("svc",), ("svc", "cluster", "local"))
"""What may follow ``NAME.NAMESPACE``."""


def view(resources: ResourceSet, namespace: str) -> ResourceSet:
    """What a gRPC client gets; ``namespace``: its own, empty where it did not say."""
    by_type = {**resources.by_type, LISTENER: GrpcListeners(resources, namespace)}
    return ResourceSet(resources.version, by_type)


class GrpcListeners(Mapping[str, Resource]):
    """Listeners by ``HOST:PORT``, made when they are asked for. They have no list: nobody wants all."""

    def __init__(self, resources: ResourceSet, namespace: str) -> None:
        self._resources = resources
        self._namespace = namespace
        self._made: dict[str, Resource] = {}

    def __getitem__(self, name: str) -> Resource:
        if name not in self._made:
            source = self._listener(name)
            if source is None:
                raise KeyError(name)
            self._made[name] = pack_resource(name, self._message(name, source), source)
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def _listener(self, name: str) -> Listener | None:
        found = self._resources.of(LISTENER).get(listener_name(name, self._namespace))
        return found.source if found is not None and isinstance(found.source, Listener) else None

    def _message(self, name: str, source: Listener) -> listener_pb2.Listener:
        hosts: tuple[VirtualHost, ...] = ()
        if source.protocol is Protocol.TCP:
            to_cluster = Forward(clusters=(WeightedCluster(name=source.cluster),))
            hosts = (VirtualHost(name=source.name, routes=(Route(name=source.name, action=to_cluster),)),)
        else:
            found = self._resources.of(ROUTE_CONFIG).get(source.route_config)
            if found is not None and isinstance(found.source, RouteConfig):
                hosts = found.source.virtual_hosts
        return _listener(name, source.port, hosts)


def listener_name(target: str, namespace: str) -> str:
    """The name of the listener that ``NAME[.NAMESPACE[.svc[.cluster.local]]]:PORT`` means; empty: it is not
    of such a form.
    """
    host, _, port = target.rpartition(":")
    name, *rest = host.lower().rstrip(".").split(".")
    own, *domain = rest or [namespace]
    return f"{own}/{name}:{port}" if name and own and tuple(domain) in _DOMAINS else ""


def _listener(name: str, port: int, hosts: tuple[VirtualHost, ...]) -> listener_pb2.Listener:
    hcm = http_connection_manager_pb2.HttpConnectionManager(
        route_config=route_pb2.RouteConfiguration(
            name=name, virtual_hosts=[_virtual_host(host, port) for host in hosts]
        )
    )
    hcm.http_filters.add(name=ROUTER).typed_config.CopyFrom(pack(router_pb2.Router()))
    return listener_pb2.Listener(name=name, api_listener=api_listener_pb2.ApiListener(api_listener=pack(hcm)))


def _virtual_host(model: VirtualHost, port: int) -> route_components_pb2.VirtualHost:
    # A client matches its target, port and all; there is no ignore_port_in_host_matching.
    named = [domain for domain in model.domains if domain != "*"]
    domains = [*model.domains, *(f"{domain}:{port}" for domain in named if not domain.endswith("*"))]
    drawn = zip(model.routes, _own_shares(model.routes), strict=True)
    routes = [route for each, share in drawn if (route := _route(each, share)) is not None]
    return route_components_pb2.VirtualHost(name=model.name, domains=domains, routes=routes)


def _own_shares(routes: Iterable[Route]) -> Iterator[int]:
    """The share of each route of the calls that come to it: gRPC draws a number for each route (gRFC A28).

    In Envoy one number is for all, so of routes that are else alike each has the shares of those before it.
    """
    alike, before = RouteMatch(), 0
    for route in routes:
        match = msgspec.structs.replace(route.match, share=MILLION)
        if match != alike:
            alike, before = match, 0
        left = MILLION - before
        yield round(MILLION * max(0, route.match.share - before) / left) if left else 0
        before = max(before, route.match.share)


def _route(model: Route, share: int) -> route_components_pb2.Route | None:
    """A route; None: it takes no call."""
    full = encode_route.route(
        msgspec.structs.replace(model, match=msgspec.structs.replace(model.match, share=share))
    )
    message = route_components_pb2.Route(name=full.name, match=full.match)
    if not _match_path(message.match, model.match):
        return None
    action = model.action
    if not isinstance(action, Forward) or action.path is not None or action.host:
        message.non_forwarding_action.SetInParent()
        return message
    route = message.route
    if full.route.WhichOneof("cluster_specifier") == "cluster":
        route.cluster = full.route.cluster
    else:
        for each in full.route.weighted_clusters.clusters:
            route.weighted_clusters.clusters.add(name=each.name, weight=each.weight)
    route.hash_policy.extend(full.route.hash_policy)
    if action.timeout:
        route.max_stream_duration.max_stream_duration.CopyFrom(duration(action.timeout))
    return message


def _match_path(message: route_components_pb2.RouteMatch, match: RouteMatch) -> bool:
    """Write a match on the path in a form that gRPC knows; whether there are such paths.

    All have two elements, /SERVICE/METHOD. So a prefix of one element is one that ends with a slash, and one
    of two is the whole path.
    """
    if not isinstance(match.path, PathPrefix):
        return not isinstance(match.path, PathExact) or match.path.value.count("/") == 2
    elements = 0 if match.path.value == "/" else match.path.value.count("/")
    if elements == 0:
        message.prefix = ""
    elif elements == 1:
        message.prefix = f"{match.path.value}/"
    else:
        message.path = match.path.value
    return elements <= 2
