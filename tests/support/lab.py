"""A lab for tests: brought up under a name of its own, and always taken down."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from meshd.model.view import (
    EndpointView,
    RouteView,
    ServiceView,
    StatusView,
    WorkloadView,
)

MESHD = (sys.executable, "-m", "meshd")
T = TypeVar("T")


class Lab:
    """A running lab, by its command line: what a user has."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *arguments: str) -> list[str]:
        """``meshd lab ARGUMENTS``, as a process is given it."""
        return [*MESHD, "lab", "--name", self.name, *arguments]

    def run(
        self, *arguments: str, timeout: float = 100, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``meshd lab ARGUMENTS``."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"meshd lab {arguments}: {done.stderr}{done.stdout}"
        return done

    def exec(self, pod: str, *command: str, timeout: float = 100, check: bool = True) -> str:
        """The output of a command in a pod."""
        done = self.run("exec", pod, "--", *command, timeout=timeout, check=False)
        assert not check or done.returncode == 0, (
            f"{command} in {pod}: {done.returncode} {done.stderr}{done.stdout}"
        )
        return done.stdout

    def curl(self, url: str, *more: str, pod: str = "client") -> str:
        """The body of an answer, fetched by curl in the client pod."""
        return self.exec(pod, "curl", "-sS", "--max-time", "30", *more, url)

    def code(self, url: str, *more: str, pod: str = "client") -> str:
        """The status code of an answer, 000 when there is none."""
        return self.exec(
            pod,
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "30",
            *more,
            url,
            check=False,
        )

    def get(self, url: str, *more: str, pod: str = "client") -> Any:
        """The JSON that an echo server answered."""
        return json.loads(self.curl(url, *more, pod=pod))

    def cluster(self) -> dict[str, list[dict[str, Any]]]:
        """``meshd lab status -o json``."""
        status: dict[str, list[dict[str, Any]]] = json.loads(self.run("status", "-o", "json").stdout)
        return status

    def pod(self, name: str) -> dict[str, Any]:
        """One pod of the status."""
        return next(pod for pod in self.cluster()["pods"] if pod["name"] == name)

    def ips(self, pod: str, node: str = "node1") -> tuple[str, ...]:
        """All addresses of a pod on a node, as the node's agent knows them."""
        return next(workload.ips for workload in self.workloads(node) if workload.name == pod)

    def service_ip(self, name: str) -> str:
        """A service's (first) VIP."""
        return str(next(s for s in self.cluster()["services"] if s["name"] == name)["ip"])

    def instance(self, node: str) -> str:
        """The agent's instance name on a node."""
        return f"{self.name}-{node}"

    def status(self, node: str = "node1") -> StatusView:
        """``meshd status`` of a node."""
        return msgspec.convert(self._view(node, "status")["nodes"][0], StatusView)

    def workloads(self, node: str = "node1") -> list[WorkloadView]:
        """``meshd workloads`` of a node."""
        return msgspec.convert(self._view(node, "workloads")["nodes"][0]["workloads"], list[WorkloadView])

    def services(self, node: str = "node1") -> list[ServiceView]:
        """``meshd services`` of a node."""
        return msgspec.convert(self._view(node, "services")["nodes"][0]["services"], list[ServiceView])

    def routes(self, node: str = "node1") -> list[RouteView]:
        """``meshd routes`` of a node."""
        return msgspec.convert(self._view(node, "routes")["nodes"][0]["routes"], list[RouteView])

    def endpoints(self, node: str = "node1") -> list[EndpointView]:
        """``meshd endpoints`` of a node."""
        return msgspec.convert(self._view(node, "endpoints")["nodes"][0]["endpoints"], list[EndpointView])

    def _view(self, node: str, document: str) -> Any:
        command = [*MESHD, document, "--instance", self.instance(node), "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextlib.contextmanager
def running_lab(
    *manifests: Path, nodes: int = 2, mode: str = "meshd", more: tuple[str, ...] = ()
) -> Iterator[Lab]:
    """A lab for the time of the body."""
    lab = Lab(f"t{secrets.token_hex(3)}")
    files = [part for path in manifests for part in ("-f", str(path))]
    try:
        lab.run("up", "--nodes", str(nodes), "--mode", mode, "--wait", "90", *files, *more, timeout=160)
        yield lab
    finally:
        lab.run("down", check=False)


def until(condition: Callable[[], T], seconds: float = 60.0, every: float = 0.05) -> T:
    """Poll until something truthy comes; the last word on what it was otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = condition()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            result = None
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {result!r}"
        time.sleep(every)
