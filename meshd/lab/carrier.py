"""What a node's pods need of what carries their traffic: an agent, or Envoys."""

from __future__ import annotations

import abc
import dataclasses
from pathlib import Path

from meshd.lab.decisions.podview import PodView
from meshd.lab.manifests.objects import Container


@dataclasses.dataclass(frozen=True, slots=True)
class Sidecar:
    """A proxy inside a pod: it is ready before the first container starts, and ends after the last."""

    container: Container
    cgroup: Path
    group: int
    """The group id it runs under."""


class Carrier(abc.ABC):
    """The mesh's part in the life of one node's pods. What a kind of mesh has no part in does nothing."""

    @abc.abstractmethod
    async def add(self, pod: PodView, netns: Path) -> None:
        """Take a pod in before its containers start, as a CNI plugin does. In time, in any case.

        Raises NetworkError, OSError: the pod cannot run.
        """

    @abc.abstractmethod
    def remove(self, pod: PodView) -> None:
        """Forget a pod."""

    @abc.abstractmethod
    async def enrolled(self) -> frozenset[str] | None:
        """The uids of the pods whose traffic is carried; None when nobody answers."""

    def pod_rules(self) -> str:
        """An nft script for the pods' network namespaces, beside the services' rules."""
        return ""

    def node_rules(self) -> str:
        """The same for the node's."""
        return ""

    def sidecar(self, pod: PodView) -> Sidecar | None:
        """What runs in the pod itself, if anything does."""
        return None

    async def drain(self, pod: PodView) -> None:
        """A pod begins to end: have its callers leave. Bounded; what fails is logged."""
        return

    async def finish(self, pod: PodView) -> None:
        """A pod's containers have ended: wait, in bounds, until their last words are passed on."""
        return

    async def stop(self) -> None:
        """End what runs for the node."""
        return
