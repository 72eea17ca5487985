"""A pod as the controllers see it: a value, not the running thing."""

from __future__ import annotations

import dataclasses
import enum

from meshd.lab.manifests.objects import PodSpec


class Phase(enum.Enum):
    """PodPhase of the Kubernetes API."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod, now."""

    namespace: str
    name: str
    uid: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: PodSpec
    node: str
    host_ip: str
    ips: tuple[str, ...]
    """IPv4, then IPv6."""
    phase: Phase
    probed_ready: bool
    """All containers run and their probes succeed."""
    terminating: bool
    restarts: int
    reason: str
    """Why it is not ready, for people; empty when it is."""

    @property
    def ready(self) -> bool:
        """Gets new connections."""
        return self.probed_ready and not self.terminating
