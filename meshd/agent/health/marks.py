"""Endpoints that are left out by our own say, over what the control plane says of them. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from meshd.model.clusters import Endpoint, EndpointSet, Health
from meshd.model.snapshot import Delta, Snapshot

EndpointAddress = tuple[str, int]


class By(enum.Enum):
    """Who says what an endpoint's health is."""

    CONTROL_PLANE = "control plane"
    PROBE = "probe"
    EJECTION = "ejection"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Why an endpoint is left out, and since when (seconds of CLOCK_MONOTONIC)."""

    by: By
    reason: str
    since: float


Marks = Mapping[str, Mapping[EndpointAddress, Mark]]
"""By cluster and endpoint."""


def marked(snapshot: Snapshot, marks: Marks) -> Snapshot:
    """The snapshot with what is marked as unhealthy. What the marks do not touch stays the very same."""
    return _with_health(snapshot, marks, Health.HEALTHY, Health.UNHEALTHY)


def unmarked(snapshot: Snapshot, marks: Marks) -> Snapshot:
    """What ``marked`` made the snapshot of."""
    return _with_health(snapshot, marks, Health.UNHEALTHY, Health.HEALTHY)


def _with_health(snapshot: Snapshot, marks: Marks, old: Health, new: Health) -> Snapshot:
    changed: list[EndpointSet] = []
    for cluster, at in marks.items():
        found = snapshot.endpoints.get(cluster)
        if found is not None and at:
            endpoints = tuple(_changed(each, at, old, new) for each in found.endpoints)
            changed.append(msgspec.structs.replace(found, endpoints=endpoints))
    return snapshot.apply(Delta(generation=snapshot.generation, endpoints=tuple(changed)))


def _changed(endpoint: Endpoint, marks: Mapping[EndpointAddress, Mark], old: Health, new: Health) -> Endpoint:
    if endpoint.health is old and (endpoint.address, endpoint.port) in marks:
        return msgspec.structs.replace(endpoint, health=new)
    return endpoint
