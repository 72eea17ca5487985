"""What it costs to have many services, and to change one: ``python -m bench.config``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from meshd.bench import machine
from meshd.cli.errors import CommandError
from tests.support.http_bed import Server, ok, read_response, receive_head
from tests.support.mesh_node import MESHD, MeshNode, MeshNodeError
from tests.support.netns import Namespace, namespace

ENDPOINTS = 10
COLD = 50
"""Services that are called for the first time."""
VIP, POD, PORT = "10.96.0.1", "10.244.0.5", 8080
SERVERS = ("10.244.1.1", "10.244.1.2")
START_SECONDS = 300.0
CHANGE_SECONDS = 20.0
PAUSE_SECONDS = 0.3
"""Between two changes, so that what one leaves to be done is not charged to the next."""
IDLE_SECONDS = 11.0
"""For what the processes use when nothing changes: after 10 s the control plane looks at all files."""
_TICK = os.sysconf("SC_CLK_TCK")


class MeasurementError(Exception):
    """What was to be measured did not happen. The message says what."""


class Usage(NamedTuple):
    """Of a process."""

    cpu_seconds: float
    resident_mib: float


def usage(pid: int) -> Usage:
    """Of one that runs. Raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return Usage((int(fields[11]) + int(fields[12])) / _TICK, int(found[1]) / 1024 if found else 0.0)


def _manifest(number: int, first: str, answered_by: str) -> str:
    """A service of number 0 is the measured one: its one endpoint is a real server."""
    name = f"s{number}"
    low = (number & 15) * 16
    rest = [f"10.{128 + (number >> 12)}.{(number >> 4) & 255}.{low + i}" for i in range(1, ENDPOINTS)]
    endpoints = [first] if number == 0 else [first, *rest]
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": answered_by}}
    objects = (
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"clusterIP": _vip(number), "ports": [{"port": 80, "appProtocol": "http"}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": PORT}],
            "endpoints": [{"addresses": [address]} for address in endpoints],
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": name},
            "spec": {
                "parentRefs": [{"group": "", "kind": "Service", "name": name}],
                "rules": [
                    {"matches": [{"path": {"value": "/route"}}], "filters": [redirect]},
                    {"backendRefs": [{"name": name, "port": 80}]},
                ],
            },
        },
    )
    return "---\n".join(json.dumps(each) + "\n" for each in objects)


def _vip(number: int) -> str:
    return VIP if number == 0 else f"10.{97 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"


def _write(file: Path, text: str) -> None:
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.rename(file)


@contextlib.contextmanager
def _control(manifests: Path, listen: Path) -> Iterator[subprocess.Popen[str]]:
    """A control plane that has read the manifests. Raises MeasurementError."""
    command = [
        *MESHD,
        "control",
        "--manifests",
        str(manifests),
        "--listen",
        "127.0.0.1:0",
        "--uds",
        str(listen),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(START_SECONDS, process.kill)
    killer.start()
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if '"new version"' in line:
                break
        else:
            raise MeasurementError(f"the control plane ended, or had no config after {START_SECONDS:g} s")
        # What it logs from now on is read by nobody else.
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        killer.cancel()
        yield process
    finally:
        killer.cancel()
        process.terminate()
        process.wait()


def _script(answer: bytes) -> Callable[[socket.socket], None]:
    def script(sock: socket.socket) -> None:
        while True:
            receive_head(sock)
            sock.sendall(answer)

    return script


def _asked(sock: socket.socket, path: str) -> bytes:
    sock.sendall(b"GET %b HTTP/1.1\r\nHost: s0\r\n\r\n" % path.encode())
    head, body, _ = read_response(sock)
    return head + body


def _until(sock: socket.socket, path: str, mark: str) -> float:
    """Seconds until a request is answered under a change. Raises MeasurementError."""
    began = time.monotonic()
    while mark.encode() not in _asked(sock, path):
        if time.monotonic() - began > CHANGE_SECONDS:
            raise MeasurementError(f"no request was answered by {mark} within {CHANGE_SECONDS:g} s")
        time.sleep(0.001)  # the machine is small: what is measured needs the CPUs
    return time.monotonic() - began


def _first_ms(services: int) -> list[float]:
    """How long the first request to each of some services takes, its connection included. The proxy answers.

    To be called in the pod's namespace. Raises MeasurementError.
    """
    took = []
    for number in range(1, min(COLD, services - 1) + 1):
        began = time.monotonic()
        with socket.create_connection((_vip(number), 80), 20) as sock:
            if b"//v0/" not in _asked(sock, "/route"):
                raise MeasurementError(f"service {number} does not answer by its route")
        took.append(1000 * (time.monotonic() - began))
        time.sleep(PAUSE_SECONDS / 10)
    return took


class Found(NamedTuple):
    """Of one number of services."""

    services: int
    subscribe: str
    control_start: float
    agent_start: float
    memory: dict[str, float]
    first_ms: list[float]
    """Of services that nobody has called; ``again_ms``: of the same."""
    again_ms: list[float]
    route_ms: list[float]
    endpoint_ms: list[float]
    cpu_ms: dict[str, float]
    """Of an endpoint's change, by process: of one that nobody polls for."""
    idle_percent: dict[str, float]
    """Of a CPU, by process, when nothing changes."""


def _measured(services: int, subscribe: str, changes: int, folder: Path) -> Found:
    manifests = folder / "manifests"
    manifests.mkdir()
    for number in range(services):
        _write(manifests / f"s{number}.yaml", _manifest(number, SERVERS[0], "v0"))
    socket_path = folder / "ads.sock"
    with contextlib.ExitStack() as stack:
        pod = stack.enter_context(namespace())
        _prepare(pod)
        began = time.monotonic()
        plane = stack.enter_context(_control(manifests, socket_path))
        control_start = time.monotonic() - began
        began = time.monotonic()
        node = stack.enter_context(
            MeshNode(f"unix:{socket_path}", "--subscribe", subscribe, seconds=START_SECONDS)
        )
        node.enrol("client", pod.path, POD)
        node.wait_for_services([f"default/s{services - 1}:80"])
        agent_start = time.monotonic() - began
        with pod.entered():
            for address in SERVERS:
                stack.enter_context(contextlib.closing(Server(_script(ok(address.encode())), address, PORT)))
            sock = stack.enter_context(socket.create_connection((VIP, 80), 20))
        _until(sock, "/", SERVERS[0])
        with pod.entered():
            first_ms, again_ms = _first_ms(services), _first_ms(services)
        pids = {"control": plane.pid, "agent": node.agent_pid, "worker": node.worker_pids()[0]}
        memory = {name: usage(pid).resident_mib for name, pid in pids.items()}
        file = manifests / "s0.yaml"

        def change(number: int, path: str, first: str, by: str, mark: str) -> float:
            time.sleep(PAUSE_SECONDS)
            _write(file, _manifest(0, first, by))
            return 1000 * _until(sock, path, mark)

        route_ms = [change(n, "/route", SERVERS[0], f"v{n}", f"//v{n}/") for n in range(1, changes + 1)]
        endpoint_ms = [change(n, "/", SERVERS[n % 2], "v0", SERVERS[n % 2]) for n in range(1, changes + 1)]
        idle = _cpu_seconds(pids, lambda: time.sleep(IDLE_SECONDS))

        def unwatched() -> None:
            for n in range(changes):
                _write(file, _manifest(0, SERVERS[n % 2], "v0"))
                time.sleep(PAUSE_SECONDS)
                if SERVERS[n % 2].encode() not in _asked(sock, "/"):
                    raise MeasurementError(f"a change was not in force after {PAUSE_SECONDS:g} s")

        used = _cpu_seconds(pids, unwatched)
        cpu_ms = {name: 1000 * value / changes for name, value in used.items()}
        idle_percent = {name: 100 * value / IDLE_SECONDS for name, value in idle.items()}
    return Found(
        services,
        subscribe,
        control_start,
        agent_start,
        memory,
        first_ms,
        again_ms,
        route_ms,
        endpoint_ms,
        cpu_ms,
        idle_percent,
    )


def _cpu_seconds(pids: Mapping[str, int], of: Callable[[], None]) -> dict[str, float]:
    """What each process uses while something is done. Raises OSError."""
    before = {name: usage(pid).cpu_seconds for name, pid in pids.items()}
    of()
    return {name: usage(pid).cpu_seconds - before[name] for name, pid in pids.items()}


def _prepare(pod: Namespace) -> None:
    for address in (POD, *SERVERS):
        pod.ip("address", "add", f"{address}/32", "dev", "lo")
    pod.ip("route", "add", "local", "10.96.0.0/15", "dev", "lo", "src", POD)


def _text(found: Found) -> Iterator[str]:
    def ms(values: list[float]) -> str:
        ordered = sorted(values)
        return f"median {statistics.median(ordered):.0f}, p99 {ordered[-1 - len(ordered) // 100]:.0f} ms"

    def each(values: dict[str, float], digits: int = 0) -> str:
        return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())

    yield f"{found.services:,} services of {ENDPOINTS} endpoints and a route, --subscribe {found.subscribe}"
    yield f"- control plane's start {found.control_start:.1f} s, then the agent's {found.agent_start:.1f} s"
    yield f"- resident MiB: {each(found.memory)}"
    if found.first_ms:
        yield f"- the first request to a service: {ms(found.first_ms)}; the next one: {ms(found.again_ms)}"
    yield f"- a route's change to the first request under it: {ms(found.route_ms)}"
    yield f"- an endpoint's: {ms(found.endpoint_ms)}; CPU ms of one: {each(found.cpu_ms, 1)}"
    yield f"- % of a CPU when nothing changes: {each(found.idle_percent, 1)}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.config", description=__doc__)
    parser.add_argument("--services", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--changes", type=int, default=100, help="of each kind (default: %(default)s)")
    parser.add_argument(
        "--subscribe",
        nargs="+",
        choices=("on-demand", "all"),
        default=["on-demand", "all"],
        help="as the agent's option (default: one after the other)",
    )
    options = parser.parse_args(arguments)
    if missing := machine.missing(["meshd-fast"]):
        print(f"bench.config: {'; '.join(missing)}", file=sys.stderr)
        return 1
    try:
        for services, subscribe in itertools.product(options.services, options.subscribe):
            with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
                for line in _text(_measured(services, subscribe, options.changes, Path(folder))):
                    print(line, flush=True)
    except KeyboardInterrupt:
        return 130
    except (MeasurementError, MeshNodeError, CommandError, OSError) as error:
        print(f"bench.config: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
