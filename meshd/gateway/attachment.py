"""Which ports of which services a route is attached to: GAMMA's parentRefs (GEP-1294)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshd.gateway.protocols import Declared, declared
from meshd.kube.httproute import HTTPRoute, ParentRef
from meshd.kube.objects import Service


@dataclass(frozen=True, slots=True)
class Attachment:
    """What became of one parentRef that is a Service. Either it has ports, or a reason and a message."""

    parent: str
    service: tuple[str, str] = ("", "")
    ports: tuple[int, ...] = ()
    reason: str = ""
    """Gateway API's reason for Accepted being false."""
    message: str = ""


def attachments(route: HTTPRoute, services: Mapping[tuple[str, str], Service]) -> list[Attachment]:
    """One for each parentRef that is a Service; other parents are other controllers' business."""
    return [
        _attach(ref, route.metadata.namespace, services)
        for ref in route.spec.parent_refs
        if ref.group in ("", "core") and ref.kind == "Service"
    ]


def _attach(ref: ParentRef, namespace: str, services: Mapping[tuple[str, str], Service]) -> Attachment:
    target = ref.namespace or namespace
    called = f"Service {target}/{ref.name}"
    parent = f"{called}:{ref.port}" if ref.port else called

    def refused(reason: str, message: str) -> Attachment:
        return Attachment(parent, reason=reason, message=message)

    if target != namespace:
        message = (
            f"consumer routes are not supported: the route is in namespace {namespace}, {called} is not; "
            f"put the route into {target} to change what all callers get"
        )
        return refused("UnsupportedValue", message)
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
    http = [port for port in chosen if declared(port) is not Declared.OPAQUE]
    if not http:
        said = ", ".join(f"{port.port} ({port.app_protocol or port.name})" for port in chosen)
        return refused("NoMatchingParent", f"{called}: declared not to speak HTTP/1.1: port {said}")
    return Attachment(parent, (target, ref.name), tuple(port.port for port in http))
