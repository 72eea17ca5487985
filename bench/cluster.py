"""What a cluster's size costs who follow its API server: ``python -m bench.cluster``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.config import PAUSE_SECONDS, MeasurementError, usage
from meshd.kube_api.access import Access
from meshd.kube_api.credentials import Credential, Fixed
from meshd.workloads.node_pods import follow_cluster
from tests.kube_api.kubeconfig import kubeconfig
from tests.kube_api.server import Object, Server
from tests.kube_api.thread import ApiThread, api_thread
from tests.support.mesh_node import MESHD

NODES = 100
PORT = 8080
WAIT_SECONDS = 120.0
SETTLE_SECONDS = 1.0
"""For what the last statuses lead to."""
POD_BYTES = 6_000
"""Of JSON: about what a pod with a few environment variables, volumes and managedFields has."""


def _fill(server: Server, services: int, pods: int) -> None:
    """Services with a route each, and the pods that they have between them, on as many nodes as there are."""
    store = server.store
    for number in range(services):
        name = f"s{number}"
        spec: Object = {
            "clusterIP": f"10.{96 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}",
            "ports": [{"port": 80, "appProtocol": "http"}],
        }
        store.write("services", {"metadata": _meta(name), "spec": spec})
        parents = [{"group": "", "kind": "Service", "name": name}]
        rules = [{"backendRefs": [{"name": name, "port": 80}]}]
        store.write("httproutes", {"metadata": _meta(name), "spec": {"parentRefs": parents, "rules": rules}})
        mine = range(number, pods, services)
        store.write("endpointslices", _slice(name, [_address(each) for each in mine]))
    for number in range(pods):
        store.write("pods", _pod(number, services))


def _meta(name: str, **labels: str) -> Object:
    return {"name": name, "namespace": "default", "labels": labels}


def _address(number: int) -> str:
    return f"10.{128 + (number >> 16)}.{(number >> 8) & 255}.{number & 255}"


def _slice(service: str, addresses: list[str]) -> Object:
    return {
        "metadata": _meta(f"{service}-1", **{"kubernetes.io/service-name": service}),
        "addressType": "IPv4",
        "ports": [{"port": PORT}],
        "endpoints": [{"addresses": [each], "conditions": {"ready": True}} for each in addresses],
    }


def _pod(number: int, services: int) -> Object:
    made: Object = {
        "metadata": _meta(f"p{number}", app=f"s{number % services}"),
        "spec": {"nodeName": f"n{number % NODES}", "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": _address(number)},
    }
    env = "x" * (POD_BYTES - len(json.dumps(made)))
    made["spec"]["containers"] = [{"name": "app", "image": "app", "env": [{"name": "PADDING", "value": env}]}]
    return made


class _Control:
    """A control plane that follows the API server, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._versions: list[float] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if '"new version"' in line:
                with self._news:
                    self._versions.append(time.monotonic())
                    self._news.notify()
        with self._news:
            self._ended = True
            self._news.notify()

    @property
    def versions(self) -> int:
        return len(self._versions)

    def version(self, number: int) -> float:
        """When it said that it has so many. Raises MeasurementError."""
        with self._news:
            self._news.wait_for(lambda: len(self._versions) >= number or self._ended, WAIT_SECONDS)
            if len(self._versions) < number:
                raise MeasurementError(f"the control plane ended, or told nothing for {WAIT_SECONDS:g} s")
            return self._versions[number - 1]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._reader.join()


@contextlib.contextmanager
def _control(folder: Path, url: str) -> Iterator[_Control]:
    command = [
        *MESHD, "control", "--kubernetes", "--kubeconfig", str(kubeconfig(folder, url)),
        "--listen", "127.0.0.1:0", "--uds", str(folder / "ads.sock"),
    ]  # fmt: skip
    made = _Control(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    try:
        yield made
    finally:
        made.end()


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise MeasurementError(f"not within {WAIT_SECONDS:g} s: {what}")
        time.sleep(0.005)


def _follow(url: str, node: str, told: Connection) -> None:
    """An agent's part: the pods of its node. Runs in a process of its own."""

    async def run() -> None:
        before, began = usage(os.getpid()).resident_mib, time.monotonic()
        access = Access(url, "default", Fixed(Credential()))
        async with contextlib.aclosing(follow_cluster(access, node)) as states:
            state = await anext(states)
            took = time.monotonic() - began
            told.send((len(state.pods), took, usage(os.getpid()).resident_mib - before))

    asyncio.run(run())


def _discovery(url: str) -> tuple[int, float, float]:
    """Pods found, seconds, MiB. Raises MeasurementError."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_follow, args=(url, "n0", there))
    process.start()
    try:
        if not here.poll(WAIT_SECONDS):
            raise MeasurementError("an agent does not find its node's pods")
        found: tuple[int, float, float] = here.recv()
        return found
    finally:
        process.join(WAIT_SECONDS)


def _measured(services: int, pods: int, changes: int, folder: Path) -> Iterator[str]:
    server = Server()
    _fill(server, services, pods)
    size = {
        kind: sum(len(json.dumps(each)) for key, each in server.objects.items() if key[0] == kind) / 2**20
        for kind in ("services", "endpointslices", "httproutes", "pods")
    }
    yield f"{services:,} services with a route each, {pods:,} pods on {NODES} nodes"
    yield "- MiB of JSON: " + ", ".join(f"{kind} {mib:.1f}" for kind, mib in size.items())
    with api_thread(server) as api:
        began = time.monotonic()
        with _control(folder, server.url) as control:
            first = control.version(1) - began
            pid = control.process.pid
            yield f"- from the control plane's start to its first snapshot: {first:.1f} s"
            _until(lambda: len(server.patches) == services, "all statuses")
            written = time.monotonic() - began
            yield f"- ...until the status of each route is written: {written:.1f} s"
            time.sleep(SETTLE_SECONDS)
            watched = len(server.open_watches)
            yield f"- resident: {usage(pid).resident_mib:.0f} MiB, at most {_peak_mib(pid):.0f} MiB"
            yield f"- an EndpointSlice's change: {_changed(api, control, changes)}"
            yield _relisted(api, control, watched)
        found, took, mib = _discovery(server.url)
        yield f"- an agent finds its node's {found} pods in {took:.2f} s, in {mib:.0f} MiB"


def _changed(api: ApiThread, control: _Control, changes: int) -> str:
    took = []
    before = usage(control.process.pid).cpu_seconds
    for number in range(changes):
        made: Any = _slice("s0", [_address(number + 1), _address(0)])
        wanted, began = control.versions + 1, time.monotonic()
        api.do(api.server.put("endpointslices", "s0-1", labels=made["metadata"]["labels"], **_body(made)))
        took.append(1000 * (control.version(wanted) - began))
        time.sleep(PAUSE_SECONDS)
    cpu = 1000 * (usage(control.process.pid).cpu_seconds - before) / changes
    median = statistics.median(took)
    return f"median {median:.0f}, at most {max(took):.0f} ms to the next snapshot; CPU {cpu:.1f} ms"


def _body(made: Object) -> Object:
    return {name: value for name, value in made.items() if name != "metadata"}


def _relisted(api: ApiThread, control: _Control, watched: int) -> str:
    """All versions that it knows are too old. What it serves stays as it is."""
    server, pid = api.server, control.process.pid
    versions, before = control.versions, usage(pid)
    api.do(server.put("namespaces", "default", ""))
    lists, began = len(server.lists), time.monotonic()
    api.do(server.forget())
    _until(lambda: len(server.lists) > lists and len(server.open_watches) >= watched, "watches again")
    took = time.monotonic() - began
    used = usage(pid)
    cpu = used.cpu_seconds - before.cpu_seconds
    return (
        f"- all of it listed anew after 410: {took:.1f} s, CPU {cpu:.1f} s, "
        f"{control.versions - versions} new snapshots, resident {used.resident_mib:.0f} MiB, "
        f"at most {_peak_mib(pid):.0f} MiB"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--services", type=int, default=1_000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=30)
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            for line in _measured(options.services, options.pods, options.changes, Path(folder)):
                print(line, flush=True)
    except KeyboardInterrupt:
        return 130
    except (MeasurementError, OSError) as error:
        print(f"bench.cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
