"""What ``meshd explain`` is asked about, and what it says of clusters. Pure."""

from __future__ import annotations

from meshd.agent.policy_text import cluster_effects, endpoint_effects
from meshd.model.clusters import Health
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.view import ShareView

KERNEL, PROXY = "kernel", "proxy"


class CannotExplainError(Exception):
    """The question is about nothing that there is. The message says what there is."""


def asked_for(snapshot: Snapshot, service: str, protocol: Protocol) -> Listener:
    """The one listener of ``[namespace/]name[:port]`` that has a protocol. Raises CannotExplainError."""
    full = service if "/" in service else f"default/{service}"
    if full in snapshot.listeners:
        found = [snapshot.listeners[full]]
    else:
        found = [each for each in snapshot.listeners.values() if each.service == full]
    fitting = [each for each in found if each.protocol is protocol]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ports = ", ".join(sorted(each.name for each in fitting))
        raise CannotExplainError(f"service {full} has several {protocol.name} ports: {ports}")
    if found and protocol is Protocol.HTTP:
        raise CannotExplainError(f"service {full} has no HTTP port: ask without METHOD and PATH")
    if found:
        raise CannotExplainError(f"service {full} has HTTP ports only: ask with METHOD and PATH")
    name, namespace = full.rpartition("/")[2].partition(":")[0], full.partition("/")[0]
    alike = sorted(
        each.name
        for each in snapshot.listeners.values()
        if each.service.startswith(f"{namespace}/") or each.service.endswith(f"/{name}")
    )
    there_are = f"; there are {', '.join(alike[:20])}" if alike else ""
    raise CannotExplainError(f"there is no service {full}{there_are}")


def share_view(snapshot: Snapshot, share: WeightedCluster) -> ShareView:
    """One cluster of a route."""
    found = snapshot.endpoints.get(share.name)
    endpoints = found.endpoints if found else ()
    cluster = snapshot.clusters.get(share.name)
    return ShareView(
        cluster=share.name,
        weight=share.weight,
        endpoints=len(endpoints),
        healthy=sum(1 for each in endpoints if each.health is Health.HEALTHY),
        policies=cluster.policies if cluster else (),
        effects=(*(cluster_effects(cluster) if cluster else ()), *endpoint_effects(endpoints)),
    )
