"""A lab node's agent: started with the node, told of the node's pods."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from pathlib import Path

import msgspec

from meshd import log
from meshd.lab.carrier import Carrier
from meshd.lab.daemon import Daemon
from meshd.lab.decisions.addressing import FABRIC_ADDRESS
from meshd.lab.decisions.podview import PodView
from meshd.lab.names import Lab
from meshd.lab.system.sandbox import Sandbox
from meshd.model.workload import Workload
from meshd.paths import run_dir

_logger = logging.getLogger("meshd.lab.mesh")

CONTROL_PORT = 15010
CONTROL = f"{FABRIC_ADDRESS}:{CONTROL_PORT}"
_ENROL_SECONDS = 5.0
_START_SECONDS = 60.0
_ANSWER_SECONDS = 2.0
_MAX_ANSWER = 4 * 1024 * 1024


class MeshOptions(msgspec.Struct, frozen=True):
    """How the lab's agents run."""

    workers: int = 1
    access_log: str = ""
    fast_path: str = "auto"
    """``on``, ``off`` or ``auto``, as the agent's --fast-path."""


class _Enrolment(msgspec.Struct):
    uid: str
    enrolled: bool


_workloads = msgspec.json.Decoder(list[_Enrolment])


def control_daemon(lab: Lab, cgroup_root: Path) -> Daemon:
    """The control plane, in the fabric's network namespace."""
    command = [sys.executable, "-m", "meshd", "control"]
    command += ["--manifests", str(lab.manifests), "--listen", CONTROL]
    group = cgroup_root / lab.cgroup / "control"
    group.mkdir(exist_ok=True)
    return Daemon("control", command, Sandbox(group, lab.netns("fabric")), lab.log("control"))


class NodeMesh(Carrier):
    """The agent of one node."""

    def __init__(self, lab: Lab, node: str, cgroup_root: Path, options: MeshOptions) -> None:
        self._node = node
        self._folder = lab.workloads(node)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._socket = run_dir(lab.instance(node)) / "agent.sock"
        node_group = cgroup_root / lab.node_cgroup(node)
        group = node_group / "agent"
        group.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "meshd", "agent", "--node", node]
        command += ["--control", CONTROL, "--cgroup", str(node_group)]
        command += ["--instance", lab.instance(node), "--runtime", "netns", "--workloads", str(self._folder)]
        command += ["--workers", str(options.workers), "--metrics-listen", "127.0.0.1:15020"]
        command += ["--fast-path", options.fast_path]
        if options.access_log:
            command += ["--access-log", options.access_log.replace("%n", node)]
        self._daemon = Daemon(
            f"agent-{node}", command, Sandbox(group, lab.netns(node)), lab.log(f"agent-{node}")
        )
        self._ready = False

    async def add(self, pod: PodView, netns: Path) -> None:
        """Hand a pod to the agent and wait, as long as is sensible, until its traffic is captured."""
        workload = Workload(
            uid=pod.uid,
            namespace=pod.namespace,
            name=pod.name,
            netns=str(netns),
            ips=pod.ips,
            service_account=pod.spec.service_account_name,
            labels=pod.labels,
            annotations=pod.annotations,
        )
        hidden = self._folder / f".{pod.uid}"
        hidden.write_bytes(msgspec.json.encode(workload))
        hidden.rename(self._file(pod))
        # A starting agent compiles its programs first; that is waited for once, not for every pod.
        seconds = _ENROL_SECONDS if self._ready else _START_SECONDS
        try:
            async with asyncio.timeout(seconds):
                while True:
                    if pod.uid in (await self.enrolled() or ()):
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            log.event(
                _logger,
                logging.WARNING,
                "pod starts outside the mesh",
                pod=f"{pod.namespace}/{pod.name}",
                reason=f"the agent of {self._node} did not enrol it in {seconds:g} s",
            )

    def remove(self, pod: PodView) -> None:
        """The pod is gone."""
        self._file(pod).unlink(missing_ok=True)

    def _file(self, pod: PodView) -> Path:
        return self._folder / f"{pod.uid}.json"

    async def enrolled(self) -> frozenset[str] | None:
        """The uids of the pods whose traffic is captured; None when the agent does not answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                body = await _get(self._socket, "/v1/workloads")
            found = _workloads.decode(body)
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None
        self._ready = True
        return frozenset(workload.uid for workload in found if workload.enrolled)

    async def stop(self) -> None:
        """End the agent."""
        await self._daemon.stop()


async def _get(path: Path, target: str) -> bytes:
    """The body of a document of an agent's. Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        # HTTP/1.0: the answer is not chunked and ends with the connection.
        writer.write(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = bytearray()
        while len(answer) < _MAX_ANSWER and (chunk := await reader.read(1 << 16)):
            answer += chunk
        return bytes(answer.partition(b"\r\n\r\n")[2])
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
