"""What does it cost to relay TCP: nobody, the worker's relay, and Envoy's tcp_proxy, on loopback.

``python -m bench.relays``: bytes a second of one connection, request and answer on open connections, and new
connections, of which each has one request.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from tests.proxy.tcp.tcp_bed import config, route, tcp_bed
from tests.support import envoy
from tests.support.envoy import EnvoyProcess

ROUNDS = 5
SECONDS = 2
_BLOCK = bytes(1 << 20)
Measure = Callable[[int], float]


def streamed(port: int) -> float:
    """Bytes a second that a server sends and a client reads on one connection, in MB/s."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"stream")
        buffer, got, began = bytearray(1 << 20), 0, time.monotonic()
        while time.monotonic() - began < SECONDS:
            got += client.recv_into(buffer)
        return got / (time.monotonic() - began) / 1e6


def wrk(*arguments: str) -> Measure:
    """Requests a second to the web server."""

    def measure(port: int) -> float:
        command = ("wrk", "-t1", f"-d{SECONDS}s", *arguments, f"http://127.0.0.1:{port}/")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "Non-2xx" not in done.stdout, done.stdout
        line = next(each for each in done.stdout.splitlines() if each.startswith("Requests/sec"))
        return float(line.partition(":")[2])

    return measure


MEASURES: tuple[tuple[str, bool, Measure], ...] = (
    ("one stream, MB/s", True, streamed),
    ("requests/s, 1 connection", False, wrk("-c1")),
    ("requests/s, 64 connections", False, wrk("-c64")),
    ("new connections/s, 16 at a time", False, wrk("-c16", "-H", "Connection: close")),
)
"""Name, whether it goes to the streaming server (else the web server), and how."""


def _stream_server(listener: socket.socket) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_stream, args=(sock,), daemon=True).start()


def _stream(sock: socket.socket) -> None:
    with sock, contextlib.suppress(OSError):
        sock.recv(16)
        while True:
            sock.sendall(_BLOCK)


@contextlib.contextmanager
def _nginx(folder: Path) -> Iterator[int]:
    port = _free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; events {{}}"
        f" http {{ access_log off; keepalive_requests 100000000;"
        f" server {{ listen 127.0.0.1:{port} backlog=4096;"
        f' location / {{ return 200 "0123456789abcdef"; }} }} }}'
    )
    with subprocess.Popen(("nginx", "-p", str(folder), "-e", "stderr", "-c", "nginx.conf")) as process:
        try:
            _wait(port)
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def _envoy(folder: Path, to: int) -> Iterator[int]:
    message: bootstrap_pb2.Bootstrap = envoy.bootstrap("relay")
    port = _free_port()
    proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    address = {"address": "127.0.0.1"}
    resources = {
        "listeners": [{
            "name": "relay",
            "address": {"socketAddress": {**address, "portValue": port}},
            "filterChains": [{"filters": [{
                "name": "envoy.filters.network.tcp_proxy",
                "typedConfig": {"@type": proxy, "statPrefix": "relay", "cluster": "db"},
            }]}],
        }],
        "clusters": [{
            "name": "db", "type": "STATIC", "connectTimeout": "5s",
            "loadAssignment": {"clusterName": "db", "endpoints": [{"lbEndpoints": [
                {"endpoint": {"address": {"socketAddress": {**address, "portValue": to}}}}
            ]}]},
        }],
    }  # fmt: skip
    json_format.ParseDict(resources, message.static_resources)
    with EnvoyProcess(message, folder) as process:
        process.wait_ready()
        _wait(port)
        yield port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


def main() -> None:
    """Measure and print."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mt-relays-")))
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        threading.Thread(target=_stream_server, args=(listener,), daemon=True).start()
        (folder / "nginx").mkdir()
        ways: dict[str, dict[bool, int]] = {"nobody": {}, "meshd": {}, "Envoy": {}}
        for stream, to in (
            (True, listener.getsockname()[1]),
            (False, stack.enter_context(_nginx(folder / "nginx"))),
        ):
            ways["nobody"][stream] = to
            bed = stack.enter_context(tcp_bed(config({"db": (to,)}, route("db"))))
            ways["meshd"][stream] = bed.port
            (folder / f"envoy{stream}").mkdir()
            ways["Envoy"][stream] = stack.enter_context(_envoy(folder / f"envoy{stream}", to))
        for name, stream, measure in MEASURES:
            found: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, ports in ways.items():
                    found[way].append(measure(ports[stream]))
            print(name, *(f"{way} {statistics.median(each):,.0f}" for way, each in found.items()), sep="; ")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
