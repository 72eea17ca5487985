"""A TCP listener's filter chains: one for each route, told apart by the name in a ClientHello.

https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/listeners/tcp_proxy, and
config.listener.v3.FilterChainMatch for which chain takes a connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.type.v3 import hash_policy_pb2

from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute
from meshd.xds.packing import duration, number, pack, seconds, unpack
from meshd.xds.unsupported import UnsupportedError, only

TCP_FILTER = "envoy.filters.network.tcp_proxy"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
_TLS = "tls"
_PROXY_FIELDS = {
    "stat_prefix", "cluster", "weighted_clusters", "idle_timeout", "max_connect_attempts", "hash_policy",
}  # fmt: skip


def plain(stat_prefix: str, cluster: str) -> listener_components_pb2.FilterChain:
    """The chain of a port without routes."""
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=stat_prefix, cluster=cluster, idle_timeout=duration(0))
    return listener_components_pb2.FilterChain(filters=[_filter(proxy)])


def write(stat_prefix: str, routes: tuple[TcpRoute, ...]) -> Iterator[listener_components_pb2.FilterChain]:
    """The chains of a port's routes."""
    for route in routes:
        chain = listener_components_pb2.FilterChain(
            name=route.name, filters=[_filter(_proxy(stat_prefix, route))]
        )
        if route.server_names:
            chain.filter_chain_match.server_names.extend(route.server_names)
            chain.filter_chain_match.transport_protocol = _TLS
        yield chain


def inspector() -> listener_components_pb2.ListenerFilter:
    """What makes the name known."""
    config = pack(tls_inspector_pb2.TlsInspector())
    return listener_components_pb2.ListenerFilter(name=TLS_INSPECTOR, typed_config=config)


def is_plain(routes: tuple[TcpRoute, ...]) -> bool:
    """Whether they are what ``plain`` makes: no more than the kernel does with the connections by itself."""
    return len(routes) == 1 and routes[0] == TcpRoute(
        name=routes[0].name, clusters=routes[0].clusters[:1], idle_timeout=0.0
    )


def _filter(proxy: tcp_proxy_pb2.TcpProxy) -> listener_components_pb2.Filter:
    return listener_components_pb2.Filter(name=TCP_FILTER, typed_config=pack(proxy))


def _proxy(stat_prefix: str, route: TcpRoute) -> tcp_proxy_pb2.TcpProxy:
    proxy = tcp_proxy_pb2.TcpProxy(stat_prefix=stat_prefix, idle_timeout=duration(route.idle_timeout))
    if len(route.clusters) == 1:
        proxy.cluster = route.clusters[0].name
    else:
        for cluster in route.clusters:
            proxy.weighted_clusters.clusters.add(name=cluster.name, weight=cluster.weight)
    if route.connect_attempts != 1:
        proxy.max_connect_attempts.CopyFrom(number(route.connect_attempts))
    if route.hash_source:
        proxy.hash_policy.add().source_ip.SetInParent()
    return proxy


def read(message: listener_pb2.Listener, name: str) -> tuple[TcpRoute, ...]:
    """The routes of a listener whose chains end in TcpProxy. Raises UnsupportedError."""
    routes = []
    taken: set[str] = set()
    inspects = _inspects(message, name)
    for i, chain in enumerate(message.filter_chains):
        where = f"filter_chains[{i}]"
        names = _names(chain, name, f"{where}.filter_chain_match")
        if names and not inspects:
            raise UnsupportedError(name, "listener_filters", f"server_names need {TLS_INSPECTOR}")
        for each in names or ("",):
            if each in taken:
                what = f"{each} is matched twice" if each else "two chains without server_names"
                raise UnsupportedError(name, f"{where}.filter_chain_match", what)
            taken.add(each)
        routes.append(_route(chain, names, name, where))
    return tuple(routes)


def _inspects(message: listener_pb2.Listener, name: str) -> bool:
    for i, each in enumerate(message.listener_filters):
        where = f"listener_filters[{i}]"
        inspector_config = tls_inspector_pb2.TlsInspector()
        if not each.typed_config.Is(inspector_config.DESCRIPTOR):
            raise UnsupportedError(name, where, f"only {TLS_INSPECTOR}")
        only(each, {"name", "typed_config"}, name, where)
        unpack(each.typed_config, inspector_config, name, f"{where}.typed_config")
        only(inspector_config, set(), name, f"{where}.typed_config")
    return bool(message.listener_filters)


def _names(chain: listener_components_pb2.FilterChain, name: str, where: str) -> tuple[str, ...]:
    match = chain.filter_chain_match
    only(match, {"server_names", "transport_protocol"}, name, where)
    if bool(match.server_names) != (match.transport_protocol == _TLS) and match.transport_protocol:
        raise UnsupportedError(name, f"{where}.transport_protocol", "only tls, with server_names")
    for each in match.server_names:
        if not each.removeprefix("*.") or "*" in each.removeprefix("*.") or each != each.lower():
            raise UnsupportedError(name, f"{where}.server_names", f"{each!r} is no name in lower case")
    return tuple(match.server_names)


def _route(
    chain: listener_components_pb2.FilterChain, names: tuple[str, ...], name: str, where: str
) -> TcpRoute:
    only(chain, {"filters", "name", "filter_chain_match"}, name, where)
    if len(chain.filters) != 1:
        raise UnsupportedError(name, f"{where}.filters", f"one is supported, not {len(chain.filters)}")
    only(chain.filters[0], {"name", "typed_config"}, name, f"{where}.filters[0]")
    where = f"{where}.filters[0].typed_config"
    proxy = tcp_proxy_pb2.TcpProxy()
    unpack(chain.filters[0].typed_config, proxy, name, where)
    only(proxy, _PROXY_FIELDS, name, where)
    default = TcpRoute(name="", clusters=())
    attempts = proxy.max_connect_attempts
    if proxy.HasField("max_connect_attempts") and not attempts.value:
        raise UnsupportedError(name, f"{where}.max_connect_attempts", "must be above 0")
    return TcpRoute(
        name=chain.name or name,
        server_names=names,
        clusters=_clusters(proxy, name, where),
        idle_timeout=seconds(proxy, "idle_timeout", default.idle_timeout),
        connect_attempts=attempts.value or default.connect_attempts,
        hash_source=_hashes_source(proxy, name, where),
    )


def _clusters(proxy: tcp_proxy_pb2.TcpProxy, name: str, where: str) -> tuple[WeightedCluster, ...]:
    if proxy.cluster:
        return (WeightedCluster(name=proxy.cluster),)
    clusters = []
    for i, each in enumerate(proxy.weighted_clusters.clusters):
        here = f"{where}.weighted_clusters.clusters[{i}]"
        only(each, {"name", "weight"}, name, here)
        if not each.name or not each.weight:
            raise UnsupportedError(name, here, "must have a name and a weight above 0")
        clusters.append(WeightedCluster(name=each.name, weight=each.weight))
    if not clusters:
        raise UnsupportedError(name, f"{where}.cluster_specifier", "must be set")
    return tuple(clusters)


def _hashes_source(proxy: tcp_proxy_pb2.TcpProxy, name: str, where: str) -> bool:
    source = hash_policy_pb2.HashPolicy()
    source.source_ip.SetInParent()
    if list(proxy.hash_policy) not in ([], [source]):
        raise UnsupportedError(name, f"{where}.hash_policy", "only source_ip, once")
    return bool(proxy.hash_policy)
