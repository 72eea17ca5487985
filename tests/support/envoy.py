"""A real Envoy as a child process: started with a bootstrap, waited for, and ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, grpc_service_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, duration_pb2, wrappers_pb2

from tests.support import unix_http

BINARY = Path(sys.executable).with_name("envoy")
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_ADS_CLUSTER = "ads"
_BLACK_HOLE = "black-hole"


class EnvoyError(Exception):
    """Envoy did not do what it was started for. The message ends with what it logged."""


def _pipe(path: Path) -> address_pb2.Address:
    # A socket of the file system is reached from every network namespace.
    return address_pb2.Address(pipe=address_pb2.Pipe(path=str(path)))


def _tcp(address: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def bootstrap(node: str) -> bootstrap_pb2.Bootstrap:
    """A bootstrap that only names the node."""
    return bootstrap_pb2.Bootstrap(node=base_pb2.Node(id=node, cluster="test"))


def with_ads(message: bootstrap_pb2.Bootstrap, server: Path | tuple[str, int]) -> bootstrap_pb2.Bootstrap:
    """``message``, with all config to come by ADS (state of the world) from a socket."""
    options = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=protocol_pb2.Http2ProtocolOptions()
        )
    )
    packed = any_pb2.Any()
    packed.Pack(options)
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(
            address=_pipe(server) if isinstance(server, Path) else _tcp(*server)
        )
    )
    message.static_resources.clusters.append(
        cluster_pb2.Cluster(
            name=_ADS_CLUSTER,
            type=cluster_pb2.Cluster.STATIC,
            connect_timeout=duration_pb2.Duration(seconds=1),
            typed_extension_protocol_options={
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed
            },
            load_assignment=endpoint_pb2.ClusterLoadAssignment(
                cluster_name=_ADS_CLUSTER,
                endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[endpoint])],
            ),
        )
    )
    ads = config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
    )
    service = grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(cluster_name=_ADS_CLUSTER)
    )
    message.dynamic_resources.CopyFrom(
        bootstrap_pb2.Bootstrap.DynamicResources(
            lds_config=ads,
            cds_config=ads,
            ads_config=config_source_pb2.ApiConfigSource(
                api_type=config_source_pb2.ApiConfigSource.GRPC,
                transport_api_version=config_source_pb2.ApiVersion.V3,
                grpc_services=[service],
            ),
        )
    )
    return message


def with_outbound_capture(message: bootstrap_pb2.Bootstrap, port: int) -> bootstrap_pb2.Bootstrap:
    """``message``, with the listener that a sidecar's redirected connections come to.

    It hands each to the listener of its original destination; one that has none is closed.
    """
    chain = listener_components_pb2.FilterChain()
    packed = any_pb2.Any()
    packed.Pack(tcp_proxy_pb2.TcpProxy(stat_prefix="unknown", cluster=_BLACK_HOLE))
    chain.filters.add(name="envoy.filters.network.tcp_proxy").typed_config.CopyFrom(packed)
    address = address_pb2.SocketAddress(address="127.0.0.1", port_value=port)
    message.static_resources.listeners.append(
        listener_pb2.Listener(
            name="virtual-outbound",
            address=address_pb2.Address(socket_address=address),
            use_original_dst=wrappers_pb2.BoolValue(value=True),
            filter_chains=[chain],
        )
    )
    message.static_resources.clusters.append(
        cluster_pb2.Cluster(
            name=_BLACK_HOLE,
            type=cluster_pb2.Cluster.STATIC,
            connect_timeout=duration_pb2.Duration(seconds=1),
        )
    )
    return message


class EnvoyProcess:
    """One running Envoy. A context manager: on exit the process has ended."""

    def __init__(self, message: bootstrap_pb2.Bootstrap, directory: Path, *, concurrency: int = 1) -> None:
        """Start it in the calling thread's network namespace. Its files go to ``directory``.

        The directory's path must be short: a Unix socket's takes 107 bytes.
        """
        name = message.node.id
        self._admin = directory / f"{name}.sock"
        message.admin.address.CopyFrom(_pipe(self._admin))
        config = directory / f"{name}.pb"
        config.write_bytes(message.SerializeToString(deterministic=True))
        self._log = directory / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(BINARY), "--config-path", str(config), "--concurrency", str(concurrency),
                    "--disable-hot-restart", "--log-level", "warning",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> EnvoyProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self) -> None:
        """End it; at once if it does not end by itself."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Until it serves with the config it was given (admin /ready). Raises EnvoyError."""
        self._until(lambda: bool(self.admin("/ready")), "be ready", seconds)

    def wait_for_listeners(self, names: Collection[str], seconds: float = _START_SECONDS) -> None:
        """Until it serves listeners of these names, their routes and clusters included. Raises EnvoyError."""
        wanted = set(names)
        self._until(lambda: wanted <= self._listeners(), f"serve {sorted(wanted)}", seconds)

    def _listeners(self) -> set[str]:
        statuses = json.loads(self.admin("/listeners?format=json") or "{}").get("listener_statuses", ())
        return {status["name"] for status in statuses}

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match a regular expression."""
        found = json.loads(self.admin(f"/stats?format=json&filter={pattern}") or "{}").get("stats", ())
        return {s["name"]: s["value"] for s in found if "value" in s}

    def admin(self, path: str) -> str:
        """The body of an admin page; empty unless it answers 200: it may not listen yet."""
        return unix_http.get(self._admin, path)

    def _until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise EnvoyError(f"Envoy ended with {self.process.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise EnvoyError(f"Envoy did not {what} within {seconds:g} s\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """What it wrote; warnings and worse."""
        return self._log.read_text(errors="replace")


@contextlib.contextmanager
def running(message: bootstrap_pb2.Bootstrap, directory: Path) -> Iterator[EnvoyProcess]:
    """An Envoy that is ready."""
    with EnvoyProcess(message, directory) as envoy:
        envoy.wait_ready()
        yield envoy
