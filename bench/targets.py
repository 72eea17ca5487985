"""What is measured: the server alone, and the server behind one proxy or two."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import envoys
from bench.network import SERVER_ADDRESS, Network
from meshd import netns
from tests.support.envoy import EnvoyProcess

SERVER_PORT = 8080
BODY = b"0123456789abcdef"
_OUTBOUND = ("127.0.0.1", 16001)
"""Not 15001: that is the port of the in-pod listener, in the same pod."""
_INBOUND = (SERVER_ADDRESS, 16006)

_NGINX = """\
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
user root;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server {{ listen {port}; location / {{ return 200 "{body}"; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """One way to the server."""

    name: str
    url: str
    """What wrk calls, from the client pod."""
    proxies: tuple[int, ...] = field(default=())
    """The pids of the proxies on the way."""


class TargetError(Exception):
    """A target does not answer as it should."""


@contextlib.contextmanager
def nginx(network: Network, directory: Path) -> Iterator[int]:
    """The server in the server pod; yields its pid."""
    config = directory / "nginx.conf"
    config.write_text(_NGINX.format(directory=directory, port=SERVER_PORT, body=BODY.decode()))
    command = ["nginx", "-p", str(directory), "-c", str(config)]
    process = network.start(network.server, command, output=directory / "nginx.out")
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def direct() -> Target:
    return Target("direct", f"http://{SERVER_ADDRESS}:{SERVER_PORT}/")


@contextlib.contextmanager
def one_envoy(network: Network, directory: Path) -> Iterator[Target]:
    """One Envoy in the client pod."""
    message = envoys.bootstrap("one", _OUTBOUND, (SERVER_ADDRESS, SERVER_PORT))
    with netns.entered(network.client.fd, network.home):
        envoy = EnvoyProcess(message, directory)
    with envoy:
        yield Target("one Envoy", f"http://{_OUTBOUND[0]}:{_OUTBOUND[1]}/", (envoy.pid,))


@contextlib.contextmanager
def envoy_pair(network: Network, directory: Path) -> Iterator[Target]:
    """An Envoy in the client pod that calls an Envoy in the server pod, as sidecars do."""
    port = _OUTBOUND[1] + 1
    near = envoys.bootstrap("near", (_OUTBOUND[0], port), _INBOUND)
    far = envoys.bootstrap("far", _INBOUND, ("127.0.0.1", SERVER_PORT))
    with contextlib.ExitStack() as stack:
        with netns.entered(network.client.fd, network.home):
            client_side = stack.enter_context(EnvoyProcess(near, directory))
        with netns.entered(network.server.fd, network.home):
            server_side = stack.enter_context(EnvoyProcess(far, directory))
        yield Target("pair of Envoys", f"http://{_OUTBOUND[0]}:{port}/", (client_side.pid, server_side.pid))


def wait_until_it_answers(network: Network, target: Target, seconds: float = 20.0) -> None:
    """Until the target answers with the server's body. Raises TargetError."""
    deadline = time.monotonic() + seconds
    while True:
        seen = _once(network, target.url)
        if seen == (200, BODY):
            return
        if time.monotonic() > deadline:
            raise TargetError(f"{target.name} at {target.url} answers {seen} after {seconds:g} s")
        time.sleep(0.05)


def _once(network: Network, url: str) -> tuple[int, bytes] | str:
    host, _, _ = url.removeprefix("http://").partition("/")
    try:
        # The socket belongs to the namespace in which it was made; reading may then go on from outside.
        with netns.entered(network.client.fd, network.home):
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.connect()
        with contextlib.closing(connection):
            connection.request("GET", "/")
            response = connection.getresponse()
            return response.status, response.read()
    except OSError as error:
        return str(error)
