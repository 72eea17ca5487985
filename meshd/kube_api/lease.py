"""Who of several replicas leads: a Lease, by the rules of client-go's leaderelection. Pure.

Clocks of two machines are never compared: a holder is gone when its record has not changed for the lease's
duration by our own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec import Struct

DURATION = 15.0
"""Seconds after which others may take a lease that its holder has not renewed."""
RENEW_DEADLINE = 10.0
"""A holder that could not renew for so long leads no more: before another may."""
RETRY = 2.0
"""Between two looks, or renewals."""


class Spec(Struct, frozen=True, rename="camel", omit_defaults=True):
    """spec of a Lease."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    acquire_time: str = ""
    renew_time: str = ""
    lease_transitions: int = 0


class Metadata(Struct, frozen=True, rename="camel", omit_defaults=True):
    """metadata of a Lease."""

    name: str
    namespace: str
    resource_version: str = ""


class Lease(Struct, frozen=True, rename="camel"):
    """A coordination.k8s.io/v1 Lease."""

    metadata: Metadata
    spec: Spec = Spec()
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


def decoded(text: bytes) -> Lease:
    """Raises msgspec.MsgspecError."""
    return msgspec.json.decode(text, type=Lease)


class Election:
    """One candidate's view. Times are of one monotonic clock, in seconds."""

    def __init__(self, identity: str) -> None:
        """``identity``: ours; no two candidates have the same."""
        self.identity = identity
        self._seen: Lease | None = None
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    def leads(self, now: float) -> bool:
        """Whether we hold the lease, and have renewed it in time."""
        return self._renewed_at is not None and now - self._renewed_at < RENEW_DEADLINE

    def wanted(
        self, lease: Lease | None, name: str, namespace: str, now: float, wall: datetime
    ) -> Lease | None:
        """What to write, given what is there; None: another holds it. ``wall``: the time of day."""
        stamp = wall.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if lease is None:
            spec = Spec(self.identity, int(DURATION), stamp, stamp, 0)
            return Lease(Metadata(name, namespace), spec)
        held = lease.spec
        if lease != self._seen:
            self._seen, self._seen_at = lease, now
        if held.holder_identity == self.identity:
            spec = msgspec.structs.replace(held, lease_duration_seconds=int(DURATION), renew_time=stamp)
        else:
            self._renewed_at = None
            duration = held.lease_duration_seconds or DURATION
            if held.holder_identity and now - self._seen_at < duration:
                return None
            transitions = held.lease_transitions + 1
            spec = Spec(self.identity, int(DURATION), stamp, stamp, transitions)
        return msgspec.structs.replace(lease, spec=spec)

    def written(self, lease: Lease, now: float) -> None:
        """What was wanted has been written. ``now``: when that was begun: we must not lead for too long."""
        self._renewed_at = now

    def released(self, lease: Lease) -> Lease:
        """What to write when we go, so that others need not wait."""
        self._renewed_at = None
        spec = msgspec.structs.replace(lease.spec, holder_identity="", lease_duration_seconds=1)
        return msgspec.structs.replace(lease, spec=spec)
