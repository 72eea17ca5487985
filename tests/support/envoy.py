"""A real Envoy as a child process: started with a bootstrap, waited for, and ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, grpc_service_pb2, protocol_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, duration_pb2

BINARY = Path(sys.executable).with_name("envoy")
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_ADS_CLUSTER = "ads"


class EnvoyError(Exception):
    """Envoy did not do what it was started for. The message ends with what it logged."""


def socket_address(address: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def bootstrap(node: str, address: str = "127.0.0.1", port: int = 0) -> bootstrap_pb2.Bootstrap:
    """A bootstrap with an admin listener and nothing else; port 0: whichever is free."""
    return bootstrap_pb2.Bootstrap(
        node=base_pb2.Node(id=node, cluster="test"),
        admin=bootstrap_pb2.Admin(address=socket_address(address, port)),
    )


def with_ads(message: bootstrap_pb2.Bootstrap, address: str, port: int) -> bootstrap_pb2.Bootstrap:
    """``message``, with all config to come by ADS (state of the world) from ``address``."""
    options = http_protocol_options_pb2.HttpProtocolOptions(
        explicit_http_config=http_protocol_options_pb2.HttpProtocolOptions.ExplicitHttpConfig(
            http2_protocol_options=protocol_pb2.Http2ProtocolOptions()
        )
    )
    packed = any_pb2.Any()
    packed.Pack(options)
    endpoint = endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=socket_address(address, port))
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


class EnvoyProcess:
    """One running Envoy. A context manager: on exit the process has ended."""

    def __init__(self, message: bootstrap_pb2.Bootstrap, directory: Path, *, concurrency: int = 1) -> None:
        """Start it in the calling thread's network namespace. Its files go to ``directory``."""
        name = message.node.id
        config = directory / f"{name}.pb"
        config.write_bytes(message.SerializeToString(deterministic=True))
        self._admin_file = directory / f"{name}.admin"
        self._log = directory / f"{name}.log"
        self._admin_address = ""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    str(BINARY), "--config-path", str(config), "--concurrency", str(concurrency),
                    "--disable-hot-restart", "--log-level", "warning",
                    "--admin-address-path", str(self._admin_file),
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
        self._until(lambda: bool(self._admin_file.exists() and self.admin("/ready")), "be ready", seconds)

    def port(self, listener: str, seconds: float = _START_SECONDS) -> int:
        """The port that a listener has got. Raises EnvoyError when there is no such listener in time."""
        self._until(lambda: listener in self._ports(), f"have the listener {listener}", seconds)
        return self._ports()[listener]

    def _ports(self) -> Mapping[str, int]:
        statuses = json.loads(self.admin("/listeners?format=json") or "{}").get("listener_statuses", ())
        return {s["name"]: s["local_address"]["socket_address"]["port_value"] for s in statuses}

    def counters(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match a regular expression."""
        found = json.loads(self.admin(f"/stats?format=json&filter={pattern}") or "{}").get("stats", ())
        return {s["name"]: s["value"] for s in found if "value" in s}

    def admin(self, path: str) -> str:
        """The body of an admin page; empty unless it answers 200. Raises nothing: it may not listen yet."""
        if not self._admin_address:
            self._admin_address = self._admin_file.read_text()
        with contextlib.closing(http.client.HTTPConnection(self._admin_address, timeout=5)) as connection:
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read().decode()
            except OSError:
                return ""
        return body if response.status == 200 else ""

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
