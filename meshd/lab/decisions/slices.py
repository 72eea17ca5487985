"""The EndpointSlices that follow from Services and pods (Kubernetes' endpoint slice controller). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from meshd.lab.decisions.addressing import families
from meshd.lab.decisions.podview import Phase, PodView
from meshd.lab.manifests.objects import (
    EndpointConditions,
    EndpointSlice,
    Metadata,
    ObjectReference,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)

_MANAGED_BY = "endpointslice-controller.k8s.io"


def endpoint_slices(service: Service, pods: Iterable[PodView]) -> Iterator[EndpointSlice]:
    """The slices of a Service: one for each family, and for each set of port numbers where these differ.

    A Service without selector has none of ours: its slices are the user's.
    """
    if not service.spec.selector or service.spec.type == "ExternalName":
        return
    chosen = [pod for pod in pods if _selects(service, pod)]
    for family in families(service):
        groups: defaultdict[tuple[SlicePort, ...], list[PodView]] = defaultdict(list)
        for pod in chosen:
            groups[tuple(_ports(service, pod))].append(pod)
        for index, (ports, members) in enumerate(
            sorted(groups.items(), key=lambda g: repr(g[0])) or [((), [])]
        ):
            yield EndpointSlice(
                metadata=Metadata(
                    name=f"{service.metadata.name}-{family.lower()}-{index}",
                    namespace=service.metadata.namespace,
                    labels={
                        "kubernetes.io/service-name": service.metadata.name,
                        "endpointslice.kubernetes.io/managed-by": _MANAGED_BY,
                    },
                ),
                address_type="IPv6" if family == "IPv6" else "IPv4",
                ports=ports,
                endpoints=tuple(_endpoint(service, pod, family) for pod in members),
            )


def _selects(service: Service, pod: PodView) -> bool:
    return (
        pod.namespace == service.metadata.namespace
        and bool(pod.ips)
        and pod.phase is Phase.RUNNING
        and service.spec.selector.items() <= pod.labels.items()
    )


def _ports(service: Service, pod: PodView) -> Iterator[SlicePort]:
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number is not None:  # a pod without a port of that name does not serve it
            yield SlicePort(name=port.name, port=number, protocol=port.protocol)


def target_port(port: ServicePort, pod: PodView) -> int | None:
    """The number of a Service's port on a pod; None when the pod has no container port of that name."""
    if port.target_port is None or port.target_port == 0:
        return port.port
    if isinstance(port.target_port, int):
        return port.target_port
    for container in pod.spec.containers:
        for candidate in container.ports:
            if candidate.name == port.target_port and candidate.protocol == port.protocol:
                return candidate.container_port
    return None


def _endpoint(service: Service, pod: PodView, family: str) -> SliceEndpoint:
    return SliceEndpoint(
        addresses=tuple(ip for ip in pod.ips if (":" in ip) == (family == "IPv6")),
        conditions=EndpointConditions(
            ready=pod.ready or service.spec.publish_not_ready_addresses,
            serving=pod.probed_ready,
            terminating=pod.terminating,
        ),
        target_ref=ObjectReference(kind="Pod", namespace=pod.namespace, name=pod.name),
        node_name=pod.node,
    )


def slice_object(found: EndpointSlice) -> dict[str, object]:
    """The slice as the Kubernetes API writes it. Conditions are written even when false."""
    plain: dict[str, object] = msgspec.to_builtins(found)
    endpoints = [
        {
            **msgspec.to_builtins(endpoint),
            "conditions": {
                "ready": endpoint.ready,
                "serving": endpoint.conditions.serving is not False,
                "terminating": bool(endpoint.conditions.terminating),
            },
        }
        for endpoint in found.endpoints
    ]
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **plain, "endpoints": endpoints}


def pod_object(pod: PodView) -> dict[str, object]:
    """The Pod as the Kubernetes API writes it, with its status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "uid": pod.uid,
            "labels": pod.labels,
            "annotations": pod.annotations,
        },
        "spec": {**msgspec.to_builtins(pod.spec), "nodeName": pod.node},
        "status": {
            "phase": pod.phase.value,
            "hostIP": pod.host_ip,
            "podIP": pod.ips[0] if pod.ips else "",
            "podIPs": [{"ip": ip} for ip in pod.ips],
            "conditions": [
                {"type": "Ready", "status": "True" if pod.probed_ready else "False"},
            ],
        },
    }
