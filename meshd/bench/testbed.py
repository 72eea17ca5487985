"""A scenario's lab: brought up and down by the command line, with its cgroups and processes known."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshd.bench import accounting, manifests, wanted
from meshd.bench.checking import Finding, Question
from meshd.bench.kernel_records import KernelRecords
from meshd.bench.results import Party, Placement, Scenario
from meshd.bench.samples import HeadSizes
from meshd.lab.command.client import ask
from meshd.lab.command.entering import find_pod, sandbox_of
from meshd.lab.command.protocol import GetStatus, Status
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

_SHORT: dict[Scenario, str] = {
    "direct": "direct", "sidecar": "side", "node-proxy": "node", "node-proxy-sockmap": "sock",
    "meshd-slow": "slow", "meshd-fast": "fast",
}  # fmt: skip
"""The end of a lab's name, which has at most 12 letters."""
_MODES: dict[Scenario, tuple[str, ...]] = {
    "direct": ("--mode", "none"),
    "sidecar": ("--mode", "sidecar"),
    "node-proxy": ("--mode", "node-proxy"),
    "node-proxy-sockmap": ("--mode", "node-proxy-sockmap"),
    "meshd-slow": ("--mode", "meshd", "--fast-path", "off"),
    "meshd-fast": ("--mode", "meshd", "--fast-path", "on"),
}
MAX_PREFIX = 6
_UP_SECONDS = 60
_DOWN_SECONDS = 60
_CHECK_SECONDS = 30
"""For one question."""
_NODES: dict[Placement, tuple[str, ...]] = {"same-node": ("node1",), "two-nodes": ("node1", "node2")}


class BedError(Exception):
    """A lab is not as it should be; the message says how."""


@dataclass(frozen=True, slots=True)
class Bed:
    """One scenario's lab."""

    scenario: Scenario
    lab: Lab
    folder: Path
    """Of its manifests; its pods' working directory."""

    @staticmethod
    def named(prefix: str, scenario: Scenario, folder: Path) -> Bed:
        """Raises ValueError for a prefix that no lab's name can begin with."""
        return Bed(scenario, Lab(prefix + _SHORT[scenario]), folder)

    def up(self, manifest: Path, nodes: int, *options: str) -> subprocess.Popen[str]:
        """Begin to bring it up; ``wait`` does the rest. ``options``: more of ``lab up``'s. Raises OSError."""
        files = ("-f", str(manifest), "--nodes", str(nodes), "--wait", str(_UP_SECONDS))
        return self._command("up", *files, *_MODES[self.scenario], *options)

    def apply(self, manifest: Path, seconds: int) -> subprocess.Popen[str]:
        """Begin to change it, waiting so long for its pods. Raises OSError."""
        return self._command("apply", "-f", str(manifest), "--wait", str(seconds))

    def down(self) -> subprocess.Popen[str]:
        """Begin to end it. Raises OSError."""
        return self._command("down")

    def _command(self, *arguments: str) -> subprocess.Popen[str]:
        # Ctrl-C in a terminal goes to all of its foreground processes: these end when we say so.
        return subprocess.Popen(
            [sys.executable, "-m", "meshd", "lab", "--name", self.lab.name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def running(self, command: Sequence[str], cpu: int | None = None) -> Iterator[subprocess.Popen[str]]:
        """A command in the client pod, on one CPU, for the time of the body. Raises LabError, OSError."""
        pod = find_pod(ask(self.lab, GetStatus(), Status), "default", manifests.CLIENT)
        sandbox = sandbox_of(self.lab, pod)

        def enter() -> None:
            sandbox.enter()
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})

        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True, preexec_fn=enter
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def checked(self, questions: Sequence[Question]) -> list[Finding]:
        """Are answers right? In the questions' order. Raises BedError, LabError, OSError."""
        seconds = _CHECK_SECONDS * len(questions) + sum(question.patience for question in questions)
        with self.running((sys.executable, "-m", "meshd.bench.checking")) as process:
            out, err = process.communicate(msgspec.json.encode(questions).decode(), seconds)
        try:
            return msgspec.json.decode(out, type=list[Finding])
        except msgspec.DecodeError:
            raise BedError(f"the check of answers failed: {err.strip()[-300:]}") from None

    def check(self, question: Question) -> HeadSizes:
        """The same of one: how long the heads of right answers are. Raises BedError for wrong ones."""
        (found,) = self.checked([question])
        if found.wrong:
            raise BedError(f"{question.host} does not answer as it should: {found.wrong}")
        return HeadSizes(found.least, found.most)

    @property
    def _root(self) -> Path:
        return cgroup.find_root() / self.lab.cgroup

    def _pod(self, name: str) -> Path:
        return cgroup.find_root() / self.lab.pod_cgroup(_node(name), "default", name)

    def _sidecar(self, name: str) -> Path:
        return cgroup.find_root() / self.lab.sidecar_cgroup(_node(name), "default", name)

    def groups(self, placement: Placement) -> dict[Party, Sequence[Path]]:
        """Whose CPU time is in which cgroups, for ``accounting.read``."""
        return {
            "client": [self._pod(manifests.CLIENT)],
            "app": [self._pod(wanted.SERVERS[placement])],
            "proxy": self._mesh(placement),
        }

    def _mesh(self, placement: Placement) -> list[Path]:
        """All on the nodes that is no pod's: agents with their workers, sidecars, nodes' Envoys."""
        groups = (group for node in _NODES[placement] for group in (self._root / node).iterdir())
        return [group for group in groups if group.is_dir() and group.name != "pods"]

    def carried(self) -> int | None:
        """Requests that the kernel of the client's node has carried so far; None: there is no meshd.

        Raises OSError, KeyError for programs without a fast path.
        """
        if self.scenario not in ("meshd-slow", "meshd-fast"):
            return None
        return KernelRecords(self.lab.instance("node1")).carried()

    def mesh_processes(self, placement: Placement) -> list[int]:
        """All processes of the mesh on the nodes."""
        return [pid for group in self._mesh(placement) for pid in cgroup.processes(group)]

    def pin(self, client_cpu: int, server_cpu: int) -> None:
        """Put everything in its place. Raises OSError.

        One CPU for what is on the client's side, shared proxies of its node included, one for the servers and
        what is on their side.
        """
        for node in self._root.glob("node*"):
            cpu = client_cpu if node.name == "node1" else server_cpu
            accounting.pin(cgroup.processes(node), cpu)
        for name in wanted.SERVERS.values():
            for group in (self._pod(name), self._sidecar(name)):
                accounting.pin(cgroup.processes(group), server_cpu)


def _node(pod: str) -> str:
    return "node2" if pod == wanted.SERVERS["two-nodes"] else "node1"


def wait(process: subprocess.Popen[str], seconds: float) -> str:
    """Wait for a lab's command; empty: it did what it should, else why not."""
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return f"no end within {seconds:g} s"
    if process.returncode == 0:
        return ""
    last = out.strip().splitlines()[-3:]
    return "; ".join(last).removeprefix("meshd lab: ") or f"exit code {process.returncode}"


def end(process: subprocess.Popen[str]) -> None:
    """Kill a lab's command and all that it started in its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def take_down(beds: Sequence[Bed]) -> list[str]:
    """End labs, all at once; what could not be removed, in words."""
    downs = [(bed, bed.down()) for bed in beds]
    return [
        f"lab {bed.lab.name} is not gone ({reason}): meshd lab --name {bed.lab.name} down"
        for bed, process in downs
        if (reason := wait(process, _DOWN_SECONDS))
    ]
