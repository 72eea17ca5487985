"""What is measured: the server alone, and the server behind one proxy or two."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import envoys
from bench.network import SERVER_ADDRESS, Namespace, Network
from tests.support.envoy import EnvoyProcess

SERVER_PORT = 8080
BODY = b"0123456789abcdef"
LARGE = "large.bin"
"""A file of the server's."""
LARGE_BODY = bytes(range(256)) * 4096
_OUTBOUND = ("127.0.0.1", 16001)
"""Not 15001: that is the port of the in-pod listener, in the same pod."""
_INBOUND = (SERVER_ADDRESS, 16006)

_NGINX = """\
worker_processes 1;
worker_rlimit_nofile {connections};
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
user root;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_header_timeout 1h;
  server {{
    listen {port} backlog=4096;
    location / {{ return 200 "{body}"; }}
    location = /{large} {{ root {directory}; }}
  }}
}}
"""
_NGINX_CONNECTIONS = 16384


@dataclass(frozen=True, slots=True)
class Target:
    """One way to the server."""

    name: str
    network: Network
    url: str
    """What wrk calls, from the client pod; ends with a slash."""
    proxies: tuple[int, ...] = field(default=())
    """The pids of the proxies on the way, the client's side first."""
    carried: Callable[[], int] = field(default=lambda: 0)
    """How many requests the kernel has carried so far, without a proxy."""


class TargetError(Exception):
    """A target does not answer as it should."""


@contextlib.contextmanager
def nginx(network: Network, directory: Path, where: Namespace, port: int = SERVER_PORT) -> Iterator[int]:
    """A server in a pod, which answers all paths with BODY and LARGE with LARGE_BODY; yields its pid."""
    own = directory / f"{where.name}-{port}"
    own.mkdir()
    (own / LARGE).write_bytes(LARGE_BODY)
    config = own / "nginx.conf"
    config.write_text(
        _NGINX.format(
            directory=own, port=port, body=BODY.decode(), large=LARGE, connections=_NGINX_CONNECTIONS
        )
    )
    command = ["nginx", "-p", str(own), "-c", str(config)]
    process = network.start(where, command, output=own / "nginx.out")
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def direct(network: Network, address: str = SERVER_ADDRESS) -> Target:
    """No mesh."""
    return Target("direct", network, f"http://{address}:{SERVER_PORT}/")


@contextlib.contextmanager
def one_envoy(network: Network, directory: Path) -> Iterator[Target]:
    """One Envoy in the client pod."""
    message = envoys.bootstrap("one", _OUTBOUND, (SERVER_ADDRESS, SERVER_PORT))
    with network.entered(network.client):
        envoy = EnvoyProcess(message, directory)
    with envoy:
        yield Target("one Envoy", network, f"http://{_OUTBOUND[0]}:{_OUTBOUND[1]}/", (envoy.pid,))


@contextlib.contextmanager
def envoy_pair(network: Network, directory: Path) -> Iterator[Target]:
    """An Envoy in the client pod that calls an Envoy in the server pod, as sidecars do."""
    port = _OUTBOUND[1] + 1
    near = envoys.bootstrap("near", (_OUTBOUND[0], port), _INBOUND)
    far = envoys.bootstrap("far", _INBOUND, ("127.0.0.1", SERVER_PORT))
    with contextlib.ExitStack() as stack:
        with network.entered(network.client):
            client_side = stack.enter_context(EnvoyProcess(near, directory))
        with network.entered(network.server):
            server_side = stack.enter_context(EnvoyProcess(far, directory))
        pids = (client_side.pid, server_side.pid)
        yield Target("pair of Envoys", network, f"http://{_OUTBOUND[0]}:{port}/", pids)


def wait_until_it_answers(target: Target, seconds: float = 20.0) -> None:
    """Until the target answers right, several times on one connection. Raises TargetError."""
    deadline = time.monotonic() + seconds
    while (wrong := _wrong_with(target)) is not None:
        if time.monotonic() > deadline:
            raise TargetError(f"{target.name} at {target.url}, after {seconds:g} s: {wrong}")
        time.sleep(0.05)


def _wrong_with(target: Target) -> str | None:
    host, _, _ = target.url.removeprefix("http://").partition("/")
    try:
        # A socket stays in the namespace and cgroup in which it was made; it may be read from outside.
        with target.network.entered(target.network.client):
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.connect()
        with contextlib.closing(connection):
            # Later requests may go another way than the first.
            for path, body in (("/", BODY), ("/", BODY), (f"/{LARGE}", LARGE_BODY), ("/", BODY)):
                connection.request("GET", path)
                response = connection.getresponse()
                got = response.read()
                if response.status != 200 or got != body:
                    return (
                        f"GET {path} is answered with {response.status} and {len(got)} bytes: {got[:100]!r}"
                    )
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    return None
