"""What the agent shows of itself over its admin socket: the documents behind ``meshd status``."""

from __future__ import annotations

import msgspec

from meshd.model.status import ObjectStatus


class ControlView(msgspec.Struct, frozen=True, kw_only=True):
    """The stream to the control plane."""

    target: str
    connected: bool
    synced: bool
    """All resources that the agent asked for have come at least once."""
    version: str
    """The control plane's name for the config that it sent last."""
    nacks: int
    """Resources refused since the agent's start."""
    refused: dict[str, str]
    """Resource name to reason, for what is refused now."""
    last_error: str


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy worker."""

    worker: int
    pid: int
    state: str
    """``starting``, ``serving`` or ``lost``."""
    generation: int
    restarts: int
    rss_bytes: int


class CaptureView(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel side."""

    pins: str
    cgroup: str
    fast_path: str
    """``off``, or the mode that the self-test chose."""
    fast_path_reason: str
    counters: dict[str, int]
    flows: int


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The node at a glance."""

    node: str
    instance: str
    version: str
    pid: int
    rss_bytes: int
    uptime_seconds: float
    generation: int
    services: int
    endpoints: int
    workloads: int
    requests: int
    """Requests answered since the workers' start."""
    failed_requests: int
    """Of those, answered with a 5xx."""
    control: ControlView
    workers: tuple[WorkerView, ...]
    capture: CaptureView
    objects: tuple[ObjectStatus, ...]
    """Routes, and objects with problems, as the control plane reports them."""


class WorkloadView(msgspec.Struct, frozen=True, kw_only=True):
    """A pod on this node, as ``meshd workloads`` lists it."""

    namespace: str
    name: str
    uid: str
    ips: tuple[str, ...]
    netns: str
    enrolled: bool
    port: int
    """Of its in-pod listener; 0 while not enrolled."""
    reason: str
    """Why it is not enrolled; empty when it is."""


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One port of one service."""

    name: str
    addresses: tuple[str, ...]
    port: int
    protocol: str
    failure_policy: str
    routes: int
    endpoints: int
    healthy: int
    requests: int


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """One route of one service port, in the order in which routes are tried."""

    service: str
    name: str
    match: str
    action: str
    requests: int


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of one cluster."""

    cluster: str
    address: str
    port: int
    weight: int
    health: str
    workload: str
