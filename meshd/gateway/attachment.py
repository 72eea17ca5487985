"""Which ports of which services a route is attached to, and for whom: GAMMA's parentRefs (GEP-1294).

A route in its Service's namespace is a producer's, for all callers; one in another namespace is a consumer's,
for the callers of that namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshd.gateway.protocols import Declared, declared
from meshd.gateway.references import is_service
from meshd.kube.grpcroute import RequestRoute
from meshd.kube.httproute import ParentRef
from meshd.kube.objects import Service
from meshd.model.status import ParentReference


@dataclass(frozen=True, slots=True)
class Attachment:
    """What became of one parentRef that is a Service. Either it has ports, or a reason."""

    parent: str
    """For people."""
    ref: ParentReference
    service: tuple[str, str] = ("", "")
    ports: tuple[int, ...] = ()
    consumer: str = ""
    """The namespace whose callers alone the route is for, which is its own; empty: it is for all callers."""
    reason: str = ""
    """Gateway API's reason for Accepted being false."""
    message: str = ""
    """What is wrong, though it may be with some of the ports only."""


def attachments(route: RequestRoute, services: Mapping[tuple[str, str], Service]) -> list[Attachment]:
    """One for each parentRef that is a Service; other parents are other controllers' business."""
    return [
        _attach(ref, route.metadata.namespace, services) for ref in route.spec.parent_refs if is_service(ref)
    ]


def _attach(ref: ParentRef, namespace: str, services: Mapping[tuple[str, str], Service]) -> Attachment:
    target = ref.namespace or namespace
    called = f"Service {target}/{ref.name}"
    parent = (
        called + (f":{ref.port}" if ref.port else "") + (f" {ref.section_name}" if ref.section_name else "")
    )

    reference = ParentReference(
        group=ref.group,
        kind=ref.kind,
        namespace=ref.namespace or "",
        name=ref.name,
        section_name=ref.section_name,
        port=ref.port or 0,
    )

    def refused(reason: str, message: str) -> Attachment:
        return Attachment(parent, reference, reason=reason, message=message)

    service = services.get((target, ref.name))
    if service is None:
        return refused("NoMatchingParent", f"{called} does not exist")
    if service.spec.type == "ExternalName" or service.spec.cluster_ip == "None":
        kind = "of type ExternalName" if service.spec.type == "ExternalName" else "headless"
        return refused("NoMatchingParent", f"{called} is {kind}: it has no address to be called by")
    chosen = [
        port
        for port in service.spec.ports
        if port.protocol == "TCP" and ref.port in (None, port.port) and ref.section_name in ("", port.name)
    ]
    if not chosen:
        wanted = " ".join(
            [f"{ref.port}" if ref.port else "", f"named {ref.section_name}" if ref.section_name else ""]
        ).strip()
        return refused("NoMatchingParent", f"{called} has no TCP port {wanted}".rstrip())
    if target != namespace and all(declared(port) is not Declared.HTTP for port in chosen):
        # It would change for all callers what the port is treated as.
        message = f"{called} does not say that port {chosen[0].port} speaks HTTP, which only its owner may"
        return refused("NoMatchingParent", f"{message}: appProtocol: http, or a name that begins with http")
    allowed = (Declared.HTTP, Declared.NOTHING) if target == namespace else (Declared.HTTP,)
    http = [port for port in chosen if declared(port) in allowed]
    if not http:
        said = ", ".join(f"{port.port} ({port.app_protocol or port.name})" for port in chosen)
        return refused("NoMatchingParent", f"{called}: declared not to speak HTTP/1.1: port {said}")
    consumer = namespace if target != namespace else ""
    return Attachment(parent, reference, (target, ref.name), tuple(port.port for port in http), consumer)
