"""Two pods, one behind meshd and one behind an Envoy sidecar, with equal servers and one ADS server."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from meshd.model.cluster_policies import Balancing, Maglev, RingHash, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, HttpVersion
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import RouteConfig, VirtualHost
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute
from tests.differential.cases import EMPTY, A, B
from tests.differential.requests import Outcome, Request, outcome
from tests.support import envoy
from tests.support.ads_thread import AdsThread
from tests.support.bilingual_server import bilingual
from tests.support.envoy import EnvoyProcess
from tests.support.http_bed import Script, Server, receive_all, receive_head
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, namespace
from tests.support.raw_client import Response, exchange
from tests.support.recording_server import RecordingServer

VIP = "10.96.0.1"
_VIPS = "10.96.0.0/16"
_POD_ADDRESS = "10.244.0.5"
_ENVOY_PORT = 15001
_SERVERS = {A: ("127.0.0.2", 8001), B: ("127.0.0.3", 8002)}
"""Loopback addresses, so that both pods can have the servers under the same endpoints."""
REFUSING, SILENT, SCRIPTED = "diff/refusing:80", "diff/silent:80", "diff/scripted:80"
"""Clusters whose server does not listen, never answers, or is the test's own (``World.scripted``)."""
_FAILING = {
    REFUSING: ("127.0.0.4", 8003),
    SILENT: ("127.0.0.5", 8004),
    SCRIPTED: ("127.0.0.6", 8005),
}
ONE, TWO = "diff/one:1", "diff/two:1"
"""Clusters whose servers answer the first bytes with their name, and the last with the hash of all."""
_STREAMS = {ONE: ("127.0.0.17", 8016), TWO: ("127.0.0.18", 8017)}
RING, MAGLEV, EITHER = "diff/ring:80", "diff/maglev:80", "diff/either:80"
"""Clusters of the servers of A and B both, by how they are balanced."""
_BALANCING: dict[str, Balancing] = {RING: RingHash(), MAGLEV: Maglev(), EITHER: RoundRobin()}
VERSIONS = {f"diff/{version.value}:80": version for version in HttpVersion}
"""Clusters of a server that speaks HTTP/1.1 and HTTP/2, by what it is spoken to in."""
_BILINGUAL = "127.0.0.7", 8006
_FIRST_PORT = 1000
_EXCHANGE_SECONDS = 60.0
# What a sidecar's init container does with iptables: connections to services go to the proxy's port.
_REDIRECT = f"""\
table ip nat {{
  chain output {{
    type nat hook output priority -100;
    ip daddr {_VIPS} tcp dport 1-65535 redirect to :{_ENVOY_PORT}
  }}
}}
"""


class World:
    """What both proxies are given, and a way to ask both."""

    def __init__(
        self, ads: AdsThread, node: MeshNode, peer: EnvoyProcess, mesh: Namespace, sidecar: Namespace
    ) -> None:
        self.ads = ads
        self.node = node
        self.peer = peer
        self._pods = {"meshd": mesh, "Envoy": sidecar}
        self._ports = itertools.count(_FIRST_PORT)

    @property
    def proxies(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._pods)

    def serve(self, several: Iterable[Sequence[VirtualHost]]) -> list[int]:
        """Give both proxies a listener for each set of virtual hosts; their ports, once both serve them.

        What was served before is withdrawn.
        """
        listeners: dict[str, Listener] = {}
        configs: dict[str, RouteConfig] = {}
        for hosts in several:
            port = next(self._ports)
            name = f"diff/web:{port}"
            listeners[name] = Listener(
                name=name,
                service="diff/web",
                addresses=(VIP,),
                port=port,
                protocol=Protocol.HTTP,
                cluster=A,
                route_config=name,
            )
            configs[name] = RouteConfig(name=name, virtual_hosts=tuple(hosts))
        self._publish(listeners, configs)
        return [listener.port for listener in listeners.values()]

    def serve_tcp(self, several: Iterable[Sequence[TcpRoute]]) -> list[int]:
        """The same with a TCP listener for each set of routes."""
        listeners = {}
        for routes in several:
            port = next(self._ports)
            name = f"diff/tcp:{port}"
            listeners[name] = Listener(
                name=name,
                service="diff/tcp",
                addresses=(VIP,),
                port=port,
                protocol=Protocol.TCP,
                cluster=ONE,
                tcp_routes=tuple(routes),
            )
        self._publish(listeners, {})
        return [listener.port for listener in listeners.values()]

    def _publish(self, listeners: dict[str, Listener], configs: dict[str, RouteConfig]) -> None:
        clusters = {name: Cluster(name=name) for name in (*_SERVERS, *_FAILING, *_STREAMS, EMPTY)}
        clusters |= {name: Cluster(name=name, balancing=each) for name, each in _BALANCING.items()}
        endpoints = {EMPTY: EndpointSet(name=EMPTY)}
        for name, (address, port) in {**_SERVERS, **_FAILING, **_STREAMS}.items():
            endpoints[name] = EndpointSet(name=name, endpoints=(Endpoint(address=address, port=port),))
        clusters |= {name: Cluster(name=name, http_version=each) for name, each in VERSIONS.items()}
        spoken_to = (Endpoint(address=_BILINGUAL[0], port=_BILINGUAL[1]),)
        endpoints |= {name: EndpointSet(name=name, endpoints=spoken_to) for name in VERSIONS}
        for name in _BALANCING:
            both = tuple(each for server in _SERVERS for each in endpoints[server].endpoints)
            endpoints[name] = EndpointSet(name=name, endpoints=both)
        self.ads.publish(Snapshot(1, listeners, configs, clusters, endpoints))
        self.peer.wait_for_listeners(listeners)
        self.node.wait_for_services(listeners)
        assert self.ads.rejections() == []

    def ask(self, port: int, request: Request) -> dict[str, Outcome]:
        """What each proxy makes of a request."""
        return {
            proxy: outcome(self.send(proxy, port, request.encode(), request.method)) for proxy in self._pods
        }

    def send(self, proxy: str, port: int, data: bytes, method: str = "GET") -> Response:
        """The response to raw bytes by one of the proxies, on a connection of its own."""
        return exchange(self.connect(proxy, port), data, method)

    def send_raw(self, proxy: str, port: int, data: bytes) -> bytes:
        """All bytes that one of the proxies answers to ``data`` before it ends the connection."""
        received = b""
        with self.connect(proxy, port) as connection, contextlib.suppress(ConnectionResetError):
            connection.sendall(data)
            while chunk := connection.recv(65536):
                received += chunk
        return received

    def stream(self, port: int, data: bytes) -> dict[str, bytes]:
        """What comes back by each proxy for ``data`` and an end; nothing where the connection breaks."""
        return {proxy: self._stream(proxy, port, data) for proxy in self._pods}

    def _stream(self, proxy: str, port: int, data: bytes) -> bytes:
        try:
            with self.connect(proxy, port) as connection:
                connection.sendall(data)
                # Envoy ends connections that it inspects when their clients have ended their direction.
                first = connection.recv(65536)
                connection.shutdown(socket.SHUT_WR)
                return first + receive_all(connection)
        except TimeoutError:
            raise
        except OSError:
            return b""

    def connect(self, proxy: str, port: int) -> socket.socket:
        """A connection that one of the proxies has."""
        with self._pods[proxy].entered():
            return socket.create_connection((VIP, port), _EXCHANGE_SECONDS)

    @contextlib.contextmanager
    def scripted(self, *answers: bytes | None) -> Iterator[dict[str, list[bytes]]]:
        """In both pods the server of SCRIPTED gives each request the next of these answers, at last always
        the last, and hangs up; None: it waits for the other side to go. The bodies of the requests that it
        got, by the proxy in whose pod it is.
        """
        address, port = _FAILING[SCRIPTED]
        bodies: dict[str, list[bytes]] = {proxy: [] for proxy in self._pods}
        with contextlib.ExitStack() as stack:
            for proxy, pod in self._pods.items():
                with pod.entered():
                    server = Server(_answering(answers, bodies[proxy]), address, port)
                stack.enter_context(contextlib.closing(server))
            yield bodies


def _answering(answers: Sequence[bytes | None], bodies: list[bytes]) -> Script:
    numbers = itertools.count()

    def script(sock: socket.socket) -> None:
        head, _, body = receive_head(sock).partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or b"0")
        while len(body) < length:
            piece = sock.recv(65536)
            if not piece:
                return
            body += piece
        bodies.append(body)
        answer = answers[min(next(numbers), len(answers) - 1)]
        if answer is None:
            sock.recv(1)
        else:
            sock.sendall(answer)

    return script


@contextlib.contextmanager
def _servers(pod: Namespace) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, address in _SERVERS.items():
            with pod.entered():
                listener = socket.create_server(address)
            stack.enter_context(RecordingServer(name, listener))
        with pod.entered():
            stack.enter_context(socket.create_server(_FAILING[SILENT]))
            for name, (host, port) in _STREAMS.items():
                stack.enter_context(contextlib.closing(Server(_digesting(name), host, port)))
            stack.enter_context(contextlib.closing(Server(bilingual, *_BILINGUAL)))
        yield


def _digesting(name: str) -> Script:
    def script(sock: socket.socket) -> None:
        first = sock.recv(65536)
        sock.sendall(name.encode())
        sock.sendall(hashlib.sha256(first + receive_all(sock)).digest())

    return script


@contextlib.contextmanager
def _sidecar(pod: Namespace, directory: Path, ads: AdsThread) -> Iterator[EnvoyProcess]:
    message = envoy.with_ads(envoy.bootstrap("sidecar"), ads.socket_path)
    envoy.with_outbound_capture(message, _ENVOY_PORT)
    with pod.entered():
        subprocess.run(["nft", "-f", "-"], input=_REDIRECT, text=True, check=True, capture_output=True)
        process = EnvoyProcess(message, directory)
    with process:
        process.wait_ready()
        yield process


@contextlib.contextmanager
def world() -> Iterator[World]:
    """All of it, running."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mt-diff-")))
        ads = stack.enter_context(AdsThread(directory / "ads.sock"))
        ads.publish(Snapshot(1))
        mesh, sidecar = stack.enter_context(namespace()), stack.enter_context(namespace())
        for pod in (mesh, sidecar):
            pod.ip("address", "add", f"{_POD_ADDRESS}/32", "dev", "lo")
            # connect() needs a way to the VIPs before anything can capture it.
            pod.ip("route", "add", "local", _VIPS, "dev", "lo", "src", _POD_ADDRESS)
            stack.enter_context(_servers(pod))
        peer = stack.enter_context(_sidecar(sidecar, directory, ads))
        node = stack.enter_context(MeshNode(ads.target, seconds=120.0))
        node.enrol("client", mesh.path, _POD_ADDRESS)
        yield World(ads, node, peer, mesh, sidecar)
