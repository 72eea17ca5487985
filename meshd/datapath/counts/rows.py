"""The rows of what the kernel counts. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What requests had in common."""

    rules: int
    """Fingerprint of the rules that they were decided by."""
    netns: int
    """The caller's cookie."""
    cluster: int
    """fingerprint.cluster_id."""
    route: int
    """Index among the rules' routes."""
    method: int
    """enum method."""
    status: int
    cancelled: int = 0
    """1: the client went before it had the whole answer; ``status`` is 0 if it had nothing of it."""


class Count(NamedTuple):
    """How many there were, on all CPUs together."""

    requests: int
    nanoseconds: int
    buckets: tuple[int, ...]
    """Not cumulative; one more than wire.LATENCY_BUCKETS."""


class UpcallRow(NamedTuple):
    """What upcalls had in common."""

    service: int
    """``service.id``."""
    reason: str
    """A name of enum upcall, in lower case and without its prefix."""
