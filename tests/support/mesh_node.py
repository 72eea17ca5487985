"""A node without a lab: the real agent and its worker, for pods that the test makes by itself."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from meshd.agent.config_journal import ConfigJournal
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout_file import read_layout
from meshd.datapath.loading.pins import Pins
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.view import (
    EndpointView,
    ExplainedRequest,
    ExplanationView,
    RouteView,
    ServiceView,
    StatusView,
    WorkloadView,
)
from meshd.model.workload import Workload
from meshd.paths import run_dir
from tests.support import unix_http

MESHD = (sys.executable, "-P", "-m", "meshd")
_SECONDS = 60.0
_T = TypeVar("_T")


class MeshNodeError(Exception):
    """The node did not come to where it should. The message ends with the agent's log."""


class MeshNode:
    """An agent and its workers under an instance name of their own. A context manager: nothing stays."""

    def __init__(
        self, control: str, *options: str, kept: Delta | None = None, seconds: float = _SECONDS
    ) -> None:
        """Start an agent that takes its config from ``control``, HOST:PORT or unix:PATH.

        ``options``: more of its command line. ``kept``: the config that an earlier agent had in force.
        ``seconds``: that it may take to come where it should.
        """
        self._seconds = seconds
        self.instance = f"mt{secrets.token_hex(4)}"
        if kept is not None:
            folder = run_dir(self.instance)
            folder.mkdir(mode=0o700, parents=True)
            ConfigJournal(folder / "config.journal").keep(kept, Snapshot().apply(kept))
        self._directory = tempfile.TemporaryDirectory(prefix="mt-node-")
        self._pods = Path(self._directory.name) / "workloads"
        self._pods.mkdir()
        self._log = Path(self._directory.name) / "agent.log"
        self._command = [
            *MESHD, "agent", "--node", self.instance, "--instance", self.instance,
            "--control", control,
            *(() if "--runtime" in options else ("--workloads", str(self._pods))),
            "--metrics-listen", "127.0.0.1:0", *options,
        ]  # fmt: skip
        self._agent = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def replace_agent(self, *options: str) -> None:
        """Kill the agent, and start another in its place, with more options. Raises MeshNodeError."""
        self._agent.kill()
        self._agent.wait()
        self._command += options
        self._agent = self._start()
        self._until(self._is_synced, "start again")

    def _is_synced(self) -> bool:
        status = self._view("status", StatusView)
        return status is not None and status.control.synced

    def __enter__(self) -> MeshNode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def enrol(self, name: str, path: str, address: str, namespace: str = "test") -> None:
        """Make a network namespace a workload, and wait until it is captured.

        ``address``: the pod's. Raises MeshNodeError.
        """
        workload = Workload(uid=name, namespace=namespace, name=name, netns=path, ips=(address,))
        beside = self._pods / f"{name}.new"
        beside.write_bytes(msgspec.json.encode(workload))
        beside.rename(self._pods / f"{name}.json")
        self.wait_for_workload(name)

    def wait_for_workload(self, uid: str) -> None:
        """Until it is captured. Raises MeshNodeError."""
        self._until(lambda: any(w.uid == uid and w.enrolled for w in self.workloads()), f"enrol {uid}")

    def wait_for_services(self, names: Collection[str]) -> None:
        """Until listeners of these names are in force, in every worker too. Raises MeshNodeError."""
        wanted = set(names)
        self._until(
            lambda: wanted <= {s.name for s in self.services()} and self._workers_serve(),
            f"serve {sorted(wanted)}",
        )

    @property
    def agent_pid(self) -> int:
        """The agent."""
        return self._agent.pid

    def ended(self) -> int:
        """Wait for the agent's end, and give its exit code. Raises MeshNodeError."""
        try:
            return self._agent.wait(self._seconds)
        except subprocess.TimeoutExpired:
            raise MeshNodeError(f"the agent did not end within {self._seconds:g} s\n{self.log()}") from None

    def status(self) -> StatusView:
        """What ``meshd status`` shows. Raises MeshNodeError."""
        self._until(lambda: self._view("status", StatusView) is not None, "answer")
        found = self._view("status", StatusView)
        assert found is not None
        return found

    def endpoints(self) -> list[EndpointView]:
        """What ``meshd endpoints`` shows; empty while the agent does not answer."""
        return self._view("endpoints", list[EndpointView]) or []

    def worker_pids(self) -> list[int]:
        """The proxy workers."""
        found = []
        for file in sorted(run_dir(self.instance).glob("worker-*.pid")):
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                found.append(int(file.read_text()))
        return found

    def open_map(self, name: str) -> Map:
        """One of the kernel's maps, the caller's to close. Raises OSError, KeyError."""
        layout = read_layout(self.instance)
        if layout is None:
            raise FileNotFoundError(f"instance {self.instance!r} keeps no layout of its maps")
        return Map.pinned(Pins(self.instance).map(layout, name))

    def _workers_serve(self) -> bool:
        status = self._view("status", StatusView)
        return status is not None and all(
            w.state == "serving" and w.generation == status.generation for w in status.workers
        )

    def services(self) -> list[ServiceView]:
        """What ``meshd services`` shows; empty while the agent does not answer."""
        return self._view("services", list[ServiceView]) or []

    def routes(self) -> list[RouteView]:
        """What ``meshd routes`` shows; empty while the agent does not answer."""
        return self._view("routes", list[RouteView]) or []

    def explanation(self, request: ExplainedRequest) -> ExplanationView | None:
        """What ``meshd explain`` shows; None: it cannot be answered."""
        question = urllib.parse.quote(msgspec.json.encode(request).decode())
        return self._view(f"explain?question={question}", ExplanationView)

    def workloads(self) -> list[WorkloadView]:
        """What ``meshd workloads`` shows; empty while the agent does not answer."""
        return self._view("workloads", list[WorkloadView]) or []

    def _view(self, name: str, kind: type[_T]) -> _T | None:
        """One of the agent's documents; None while it does not answer."""
        text = unix_http.get(run_dir(self.instance) / "agent.sock", f"/v1/{name}")
        return msgspec.json.decode(text, type=kind) if text else None

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + self._seconds
        while not condition():
            if self._agent.poll() is not None:
                raise MeshNodeError(f"the agent ended with {self._agent.returncode}\n{self.log()}")
            if time.monotonic() > deadline:
                raise MeshNodeError(f"the agent did not {what} within {self._seconds:g} s\n{self.log()}")
            time.sleep(0.02)

    def log(self) -> str:
        """What the agent and its workers wrote."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """End the agent and its workers, and remove what they put on the machine. Raises MeshNodeError."""
        self._agent.terminate()
        try:
            self._agent.wait(60)
        except subprocess.TimeoutExpired:
            self._agent.kill()
            self._agent.wait()
        cleanup = subprocess.run(
            [*MESHD, "cleanup", "--instance", self.instance], capture_output=True, text=True, check=False
        )
        log = self.log()
        self._directory.cleanup()
        if cleanup.returncode:
            raise MeshNodeError(f"meshd cleanup ended with {cleanup.returncode}: {cleanup.stderr}\n{log}")
