"""What discovery has found on the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from meshd.model.workload import Workload


class LeftOut(NamedTuple):
    """A pod on the node that is not in the mesh."""

    namespace: str
    name: str
    uid: str
    reason: str


class Found(NamedTuple):
    """All pods on the node, at one moment."""

    workloads: Mapping[str, Workload]
    """Those that are to be in the mesh, by uid."""
    left_out: tuple[LeftOut, ...] = ()
