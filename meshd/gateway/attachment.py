"""Which ports of which services a route is attached to, and for whom: GAMMA's parentRefs (GEP-1294).

A route in its Service's namespace is a producer's, for all callers; one in another namespace is a consumer's,
for the callers of that namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from meshd.gateway.protocols import Declared, declared
from meshd.gateway.references import is_service
from meshd.kube.httproute import ParentRef
from meshd.kube.l4routes import AnyRoute, TCPRoute, TLSRoute
from meshd.kube.objects import Service, ServicePort
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


def attachments(route: AnyRoute, services: Mapping[tuple[str, str], Service]) -> list[Attachment]:
    """One for each parentRef that is a Service; other parents are other controllers' business."""
    return [_attach(ref, route, services) for ref in route.spec.parent_refs if is_service(ref)]


def without_ports(attachment: Attachment, kind: str, holder: Callable[[int], str]) -> Attachment:
    """An attachment of a route of a kind without the ports that others have; one that loses all is refused.

    ``holder``: the kind of the routes that have a port; empty: it is free.
    """
    lost = {port: other for port in attachment.ports if (other := holder(port))}
    if not lost:
        return attachment
    left = tuple(port for port in attachment.ports if port not in lost)
    told = ", ".join(f"port {port} has {other}s" for port, other in lost.items())
    message = f"{attachment.parent}: {told}, which come before {kind}s"
    return replace(attachment, ports=left, reason="" if left else "Conflicted", message=message)


def _attach(ref: ParentRef, route: AnyRoute, services: Mapping[tuple[str, str], Service]) -> Attachment:
    namespace = route.metadata.namespace
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
    kept = [port for port in chosen if _is_usable(route, declared(port), target == namespace)]
    if not kept:
        return refused("NoMatchingParent", _why_none(route, called, chosen, target == namespace))
    consumer = namespace if target != namespace else ""
    return Attachment(parent, reference, (target, ref.name), tuple(port.port for port in kept), consumer)


def _is_usable(route: AnyRoute, said: Declared, own: bool) -> bool:
    """Whether a route may be for a port. ``own``: it is in the route's namespace.

    A consumer's route may not change for all callers what a port is treated as; only its owner may.
    """
    if isinstance(route, TLSRoute):
        return said is not Declared.HTTP
    if isinstance(route, TCPRoute):
        # Whatever is spoken on a port, it is spoken over TCP.
        return own or said is not Declared.HTTP
    return said is not Declared.OPAQUE if own else said is Declared.HTTP


def _why_none(route: AnyRoute, called: str, ports: Sequence[ServicePort], own: bool) -> str:
    listed = ", ".join(f"{port.port} ({port.app_protocol or port.name})" for port in ports)
    if isinstance(route, TLSRoute):
        return f"{called}: declared to speak HTTP in clear text: port {listed}"
    if isinstance(route, TCPRoute):
        return (
            f"{called}: declared to speak HTTP, and only its owner may have it treated as TCP: port {listed}"
        )
    if own:
        return f"{called}: declared not to speak HTTP in clear text: port {listed}"
    message = f"{called} does not say that port {ports[0].port} speaks HTTP, which only its owner may"
    return f"{message}: appProtocol: http, or a name that begins with http"
