"""The lab's state as its status. Pure."""

from __future__ import annotations

from collections import Counter

from meshd.lab.cluster import Cluster
from meshd.lab.protocol import NodeStatus, PodStatus, PortStatus, ServiceStatus, Status
from meshd.lab.rollout import template_hash


def status(mode: str, cluster: Cluster) -> Status:
    """What runs, and what is missing."""
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
            containers=[container.name for container in view.spec.containers],
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
        NodeStatus(node.net.name, node.net.fabric_v4, node.mesh is None or node.mesh.running)
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
