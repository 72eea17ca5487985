"""A workload: one pod on this node, known by its network namespace."""

from __future__ import annotations

import msgspec


class Workload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pod that the mesh serves. Its identity in the kernel is its netns cookie."""

    uid: str
    namespace: str
    name: str
    netns: str
    """A path that opens the network namespace: /run/netns/NAME or /proc/PID/ns/net."""
    ips: tuple[str, ...] = ()
    service_account: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
