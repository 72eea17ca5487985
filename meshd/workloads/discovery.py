"""The workloads of a node, as a runtime and, where there is one, an API server tell of them."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec

from meshd.kube_api.access import Access
from meshd.kube_api.following import changed_or_failed
from meshd.workloads.cri import CriSandboxes
from meshd.workloads.docker import DockerContainers
from meshd.workloads.found import Found
from meshd.workloads.membership import Enrol
from meshd.workloads.netns_folder import follow_folder
from meshd.workloads.node_pods import follow_cluster
from meshd.workloads.sandboxes import Cluster, Sandbox, found


class Runtime(enum.Enum):
    """Who makes the pods."""

    NETNS = "netns"
    """Whoever writes a file for each into a folder; all of them are enrolled."""
    CONTAINERD = "containerd"
    CRIO = "cri-o"
    DOCKER = "docker"


SOCKETS = {
    Runtime.CONTAINERD: Path("/run/containerd/containerd.sock"),
    Runtime.CRIO: Path("/run/crio/crio.sock"),
    Runtime.DOCKER: Path("/run/docker.sock"),
}


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """Where to ask for them."""

    runtime: Runtime
    place: Path
    """The runtime's socket; for NETNS the folder."""
    node: str
    enrol: Enrol = Enrol.LABELLED
    access: Access | None = None
    """The API server; None: what the runtime knows of labels and annotations has to do."""

    async def follow(self) -> AsyncGenerator[Found, None]:
        """What there is, as soon as all that are asked have told, and after each change. Raises OSError."""
        match self.runtime:
            case Runtime.NETNS:
                folder = follow_folder(self.place)
                async with contextlib.aclosing(folder):
                    async for each in folder:
                        yield each
                return
            case Runtime.CONTAINERD | Runtime.CRIO:
                sandboxes = CriSandboxes(self.place).follow()
            case Runtime.DOCKER:
                sandboxes = DockerContainers(self.place).follow()
        both = _Both(sandboxes, follow_cluster(self.access, self.node) if self.access else None)
        async with contextlib.aclosing(both.follow()) as states:
            async for known, cluster in states:
                yield found(known, cluster, self.enrol)


class _Both:
    """The newest of each of two that change by themselves."""

    def __init__(
        self,
        sandboxes: AsyncGenerator[tuple[Sandbox, ...], None],
        clusters: AsyncGenerator[Cluster, None] | None,
    ) -> None:
        self._sandboxes = sandboxes
        self._clusters = clusters
        self._known: tuple[Sandbox, ...] | None = None
        self._cluster = None if clusters is not None else Cluster()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncGenerator[tuple[tuple[Sandbox, ...], Cluster], None]:
        """Once both are known, and after each change of either."""
        tasks = {asyncio.create_task(self._follow_sandboxes(), name="sandboxes")}
        if self._clusters is not None:
            tasks.add(asyncio.create_task(self._follow_clusters(self._clusters), name="cluster"))
        try:
            while True:
                await changed_or_failed(self._changed, tasks)
                self._changed.clear()
                if self._known is not None and self._cluster is not None:
                    yield self._known, self._cluster
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_sandboxes(self) -> None:
        async with contextlib.aclosing(self._sandboxes) as states:
            async for self._known in states:
                self._changed.set()

    async def _follow_clusters(self, clusters: AsyncGenerator[Cluster, None]) -> None:
        async with contextlib.aclosing(clusters) as states:
            async for self._cluster in states:
                self._changed.set()
