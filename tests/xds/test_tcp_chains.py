"""TCP routes as Envoy has them: what is written, and what of others' chains is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.listener.proxy_protocol.v3 import proxy_protocol_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from google.protobuf import wrappers_pb2

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute
from meshd.xds import decode_listener, encode
from meshd.xds.namespaces import Namespaces
from meshd.xds.resources import LISTENER, ResourceSet, next_set
from meshd.xds.unsupported import UnsupportedError
from meshd.xds.warming import warm

SHARES = (WeightedCluster(name="a", weight=9), WeightedCluster(name="b"))
WEB = TcpRoute(
    name="default/web/0", server_names=("web.example", "*.web.example"), clusters=SHARES, connect_attempts=4
)
REST = TcpRoute(name="default/rest/0", clusters=(WeightedCluster(name="c"),), hash_source=True)
LISTENER_MODEL = Listener(
    name="default/tls:443",
    service="default/tls",
    addresses=("10.96.0.1",),
    port=443,
    protocol=Protocol.TCP,
    cluster="default/tls:443",
    tcp_routes=(WEB, REST),
)
PLAIN = msgspec.structs.replace(LISTENER_MODEL, tcp_routes=())


def proxy_of(message: listener_pb2.Listener, chain: int = 0) -> tcp_proxy_pb2.TcpProxy:
    found = tcp_proxy_pb2.TcpProxy()
    assert message.filter_chains[chain].filters[0].typed_config.Unpack(found)
    return found


def test_a_chain_for_each_route_and_an_inspector_for_names() -> None:
    message = encode.listener(LISTENER_MODEL)
    assert [each.name for each in message.listener_filters] == ["envoy.filters.listener.tls_inspector"]
    web, rest = message.filter_chains
    assert list(web.filter_chain_match.server_names) == ["web.example", "*.web.example"]
    assert web.filter_chain_match.transport_protocol == "tls"
    assert not rest.HasField("filter_chain_match")
    shares = proxy_of(message, 0)
    assert [(each.name, each.weight) for each in shares.weighted_clusters.clusters] == [("a", 9), ("b", 1)]
    assert shares.max_connect_attempts.value == 4
    assert shares.idle_timeout.seconds == 3600
    only = proxy_of(message, 1)
    assert (only.cluster, only.hash_policy[0].HasField("source_ip")) == ("c", True)


def test_a_port_without_names_is_not_inspected() -> None:
    for model in (PLAIN, msgspec.structs.replace(LISTENER_MODEL, tcp_routes=(REST,))):
        assert not encode.listener(model).listener_filters


def test_others_chain_with_an_idle_timeout_is_relayed_with_envoys_defaults() -> None:
    message = encode.listener(PLAIN)
    proxy = proxy_of(message)
    proxy.ClearField("idle_timeout")
    message.filter_chains[0].filters[0].typed_config.Pack(proxy)
    decoded = decode_listener.listener(message)
    shares = (WeightedCluster(name="default/tls:443"),)
    assert decoded.tcp_routes == (TcpRoute(name="default/tls:443", clusters=shares),)
    assert decode_listener.listener(encode.listener(PLAIN)).tcp_routes == ()


_OTHER = proxy_protocol_pb2.ProxyProtocol()
_JA3 = tls_inspector_pb2.TlsInspector(enable_ja3_fingerprinting=wrappers_pb2.BoolValue(value=True))


def _continue(message: listener_pb2.Listener) -> None:
    message.continue_on_listener_filters_timeout = True


CHAINS: list[tuple[str, Callable[[listener_pb2.Listener], object]]] = [
    ("listener_filters: server_names", lambda m: m.ClearField("listener_filters")),
    (
        "listener_filters[0]",
        lambda m: m.listener_filters[0].typed_config.Pack(proxy_protocol_pb2.ProxyProtocol()),
    ),
    ("listener_filters[0].filter_disabled", lambda m: m.listener_filters[0].filter_disabled.SetInParent()),
    (
        "listener_filters[0].typed_config.enable_ja3_fingerprinting",
        lambda m: m.listener_filters[0].typed_config.Pack(_JA3),
    ),
    (
        "continue_on_listener_filters_timeout",
        lambda m: setattr(m, "continue_on_listener_filters_timeout", True),
    ),
    ("default_filter_chain", lambda m: m.default_filter_chain.SetInParent()),
    (
        "filter_chains[1].filter_chain_match: two",
        lambda m: m.filter_chains[0].ClearField("filter_chain_match"),
    ),
    (
        "filter_chains[1].filter_chain_match: web.example is matched twice",
        lambda m: m.filter_chains[1].filter_chain_match.server_names.append("web.example"),
    ),
    (
        "filter_chains[1].filter_chain_match.transport_protocol",
        lambda m: setattr(m.filter_chains[1].filter_chain_match, "transport_protocol", "tls"),
    ),
    (
        "filter_chains[1].filter_chain_match.application_protocols",
        lambda m: m.filter_chains[1].filter_chain_match.application_protocols.append("h2"),
    ),
    *(
        (
            "filter_chains[1].filter_chain_match.server_names",
            lambda m, name=name: m.filter_chains[1].filter_chain_match.server_names.append(name),
        )
        for name in ("*", "*.", "w*.example", "Upper.example", "")
    ),
    ("filter_chains[1].filters", lambda m: m.filter_chains[1].filters.add()),
    ("filter_chains[1].transport_socket", lambda m: m.filter_chains[1].transport_socket.SetInParent()),
]
PROXY: list[tuple[str, Callable[[tcp_proxy_pb2.TcpProxy], object]]] = [
    ("tunneling_config", lambda p: p.tunneling_config.SetInParent()),
    ("access_log", lambda p: p.access_log.add()),
    ("max_downstream_connection_duration", lambda p: p.max_downstream_connection_duration.SetInParent()),
    ("max_connect_attempts", lambda p: setattr(p.max_connect_attempts, "value", 0)),
    ("cluster_specifier", lambda p: p.ClearField("weighted_clusters")),
    (
        "weighted_clusters.clusters[0].metadata_match",
        lambda p: p.weighted_clusters.clusters[0].metadata_match.SetInParent(),
    ),
    ("weighted_clusters.clusters[1]", lambda p: setattr(p.weighted_clusters.clusters[1], "weight", 0)),
    ("hash_policy", lambda p: p.hash_policy.add().filter_state.SetInParent()),
]


@pytest.mark.parametrize(("field", "edit"), CHAINS, ids=[field for field, _ in CHAINS])
def test_what_chains_ask_for_beyond_what_we_do_is_refused(
    field: str, edit: Callable[[listener_pb2.Listener], object]
) -> None:
    message = encode.listener(LISTENER_MODEL)
    edit(message)
    with pytest.raises(UnsupportedError) as caught:
        decode_listener.listener(message)
    assert str(caught.value).startswith(f"default/tls:443: {field}")


@pytest.mark.parametrize(("field", "edit"), PROXY, ids=[field for field, _ in PROXY])
def test_what_a_proxy_asks_for_beyond_what_we_do_is_refused(
    field: str, edit: Callable[[tcp_proxy_pb2.TcpProxy], object]
) -> None:
    message = encode.listener(LISTENER_MODEL)
    proxy = proxy_of(message)
    edit(proxy)
    message.filter_chains[0].filters[0].typed_config.Pack(proxy)
    with pytest.raises(UnsupportedError) as caught:
        decode_listener.listener(message)
    assert str(caught.value).startswith(f"default/tls:443: filter_chains[0].filters[0].typed_config.{field}")


def test_an_http_listener_has_no_listener_filters() -> None:
    http = msgspec.structs.replace(PLAIN, protocol=Protocol.HTTP, route_config="r")
    message = encode.listener(http)
    message.listener_filters.add(name="x")
    with pytest.raises(UnsupportedError, match="listener_filters"):
        decode_listener.listener(message)


def test_a_namespaces_client_gets_its_own_routes_in_the_listener() -> None:
    model = msgspec.structs.replace(LISTENER_MODEL, tcp_consumers=(("shop", (REST,)),))
    resources = next_set(ResourceSet("", {}), Snapshot(1, {model.name: model}).as_delta(), (), ())
    views = Namespaces(resources)

    def seen(namespace: str) -> Listener:
        packed = views.of(namespace).of(LISTENER)[model.name].packed
        message = listener_pb2.Listener()
        assert packed.Unpack(message)
        return decode_listener.listener(message)

    assert seen("") == model
    assert seen("shop") == msgspec.structs.replace(model, tcp_routes=(REST,), tcp_consumers=())
    assert seen("other") == msgspec.structs.replace(model, tcp_consumers=())


def test_a_listener_waits_for_the_endpoints_of_its_routes_clusters() -> None:
    names = ("a", "b", "c", "default/tls:443")
    clusters = {name: Cluster(name=name) for name in names}
    endpoints = {name: EndpointSet(name=name) for name in names}
    listeners = {LISTENER_MODEL.name: LISTENER_MODEL}
    whole = Snapshot(1, listeners, clusters=clusters, endpoints=endpoints)
    assert warm(whole, Snapshot()).listeners == listeners
    partial = Snapshot(
        1, listeners, clusters=clusters, endpoints={n: e for n, e in endpoints.items() if n != "b"}
    )
    assert warm(partial, Snapshot()).listeners == {}
