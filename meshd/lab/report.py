"""The lab's state as its status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from meshd.lab.cluster import Cluster
from meshd.lab.command.protocol import Membership, NodeStatus, PodStatus, PortStatus, ServiceStatus, Status
from meshd.lab.decisions.rollout import template_hash


def status(mode: str, cluster: Cluster, enrolled: Mapping[str, frozenset[str] | None]) -> Status:
    """What runs, and what is missing.

    ``enrolled``: by node, what its agent said of the pods' uids; None when it did not answer.
    """
    uids = {uid for of_node in enrolled.values() for uid in of_node or ()}
    views = [(run, run.view) for run in cluster.pods.values()]
    pods = [
        PodStatus(
            name=view.name,
            namespace=view.namespace,
            node=view.node,
            ip=view.ips[0],
            ready=view.ready,
            phase="Terminating" if view.terminating else view.phase.value,
            restarts=view.restarts,
            reason=view.reason,
            owner=run.owner.partition("/")[2],
            mesh=Membership.NONE
            if run.mesh is None
            else Membership.ENROLLED
            if view.uid in uids
            else Membership.MISSING,
            containers=run.container_names,
        )
        for run, view in views
    ]
    services = [
        ServiceStatus(
            name=service.metadata.name,
            namespace=service.metadata.namespace,
            ip=vips[0] if vips else "None",
            ports=[PortStatus(port.name, port.port, port.protocol) for port in service.spec.ports],
        )
        for service, vips in cluster.store.services()
    ]
    nodes = [
        NodeStatus(node.net.name, node.net.fabric_v4, enrolled.get(node.net.name, frozenset()) is not None)
        for node in cluster.nodes
    ]
    return Status(
        mode,
        nodes,
        sorted(pods, key=lambda p: (p.namespace, p.name)),
        sorted(services, key=lambda s: (s.namespace, s.name)),
        _missing(cluster),
    )


def _missing(cluster: Cluster) -> list[str]:
    """Deployments without all their pods of the newest template, and pods that are not there."""
    ready = Counter((run.owner, run.template) for run in cluster.pods.values() if run.view.ready)
    found = []
    for deployment, _ in cluster.store.deployments():
        name = f"{deployment.metadata.namespace}/{deployment.metadata.name}"
        wanted = deployment.spec.replicas
        have = ready[name, template_hash(deployment.spec.template)]
        if have < wanted:
            found.append(f"Deployment {name}: {have} of {wanted} pods ready")
    for pod, _ in cluster.store.pods():
        key = (pod.metadata.namespace, pod.metadata.name)
        if key not in cluster.pods or cluster.pods[key].template != template_hash(pod):
            found.append(f"Pod {'/'.join(key)}: not running")
    return found
