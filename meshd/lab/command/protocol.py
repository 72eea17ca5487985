"""What the command line asks a lab's supervisor, and what it answers: MessagePack over a Unix socket.

One request a connection: the client writes it and half-closes; the supervisor writes the answer and closes.
"""

from __future__ import annotations

import enum

import msgspec

from meshd.lab.manifests.files import Manifest

MAX_MESSAGE = 64 * 1024 * 1024


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Create or update objects."""

    manifests: list[Manifest]


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Remove objects."""

    manifests: list[Manifest]


class GetStatus(msgspec.Struct, frozen=True, tag=True):
    """What runs."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the pods gracefully, then the lab."""


Request = Apply | Delete | GetStatus | Stop


class Done(msgspec.Struct, frozen=True, tag=True):
    """What became of each object: created, configured, unchanged, deleted or not found."""

    results: list[tuple[str, str]]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Nothing was changed, and why."""

    reason: str


class NodeStatus(msgspec.Struct, frozen=True):
    """One node."""

    name: str
    ip: str
    ready: bool


class Membership(enum.Enum):
    """Whether a pod's traffic is the mesh's."""

    NONE = "-"
    ENROLLED = "yes"
    MISSING = "no"
    """It should be, but its node's agent does not say so."""


class PodStatus(msgspec.Struct, frozen=True):
    """One pod."""

    name: str
    namespace: str
    node: str
    ip: str
    ready: bool
    phase: str
    restarts: int
    reason: str
    owner: str
    """The Deployment's name; empty for a Pod of its own."""
    containers: list[str]
    mesh: Membership = Membership.NONE


class PortStatus(msgspec.Struct, frozen=True):
    """One port of a service."""

    name: str
    port: int
    protocol: str


class ServiceStatus(msgspec.Struct, frozen=True):
    """One service; ``ip`` is its first VIP, ``None`` for a headless one."""

    name: str
    namespace: str
    ip: str
    ports: list[PortStatus]


class Status(msgspec.Struct, frozen=True, tag=True):
    """The lab."""

    mode: str
    nodes: list[NodeStatus]
    pods: list[PodStatus]
    services: list[ServiceStatus]
    missing: list[str] = []
    """What is not as wanted yet, apart from the pods that are not ready: a Deployment with too few pods."""


Reply = Done | Failed | Status
