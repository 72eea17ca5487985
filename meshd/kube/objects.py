"""The Kubernetes objects that the mesh acts on, as far as it reads them.

Bounds and patterns are those of the APIs (k8s.io/api core/v1 and discovery/v1; the CRDs of
kubernetes-sigs/gateway-api). Fields are Python's spelling of the APIs' camelCase.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct, field

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z", max_length=253)]
Label = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z", max_length=63)]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]


class Key(NamedTuple):
    """What identifies an object among all."""

    kind: str
    namespace: str
    """Empty for objects without one."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class ObjectMeta(Struct, frozen=True, rename="camel"):
    """metadata."""

    name: Name
    namespace: Label = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    generation: int = 0


class Namespace(Struct, frozen=True, rename="camel"):
    """A core/v1 Namespace."""

    metadata: ObjectMeta


class ServicePort(Struct, frozen=True, rename="camel"):
    """spec.ports[] of a Service. targetPort is not read: EndpointSlices carry what it resolves to."""

    port: PortNumber
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    app_protocol: str = ""


class ServiceSpec(Struct, frozen=True, rename="camel"):
    """spec of a Service."""

    ports: tuple[ServicePort, ...] = ()
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    publish_not_ready_addresses: bool = False
    session_affinity: Literal["None", "ClientIP"] = "None"
    internal_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    traffic_distribution: str = ""


class Service(Struct, frozen=True, rename="camel"):
    """A core/v1 Service."""

    metadata: ObjectMeta
    spec: ServiceSpec


class EndpointConditions(Struct, frozen=True, rename="camel"):
    """conditions of an endpoint. Unset means ready (discovery/v1 types.go)."""

    ready: bool = True
    serving: bool | None = None
    terminating: bool = False


class ObjectReference(Struct, frozen=True, rename="camel"):
    """targetRef of an endpoint."""

    kind: str = ""
    namespace: str = ""
    name: str = ""


class Hint(Struct, frozen=True, rename="camel"):
    """A zone or node that an endpoint is meant for (discovery/v1 ForZone, ForNode)."""

    name: str


class EndpointHints(Struct, frozen=True, rename="camel"):
    """hints of an endpoint."""

    for_zones: Annotated[tuple[Hint, ...], Meta(max_length=8)] = ()
    for_nodes: Annotated[tuple[Hint, ...], Meta(max_length=8)] = ()


class SliceEndpoint(Struct, frozen=True, rename="camel"):
    """endpoints[] of an EndpointSlice."""

    addresses: Annotated[tuple[str, ...], Meta(min_length=1, max_length=100)]
    conditions: EndpointConditions = EndpointConditions()
    node_name: str = ""
    zone: str = ""
    hints: EndpointHints = EndpointHints()
    target_ref: ObjectReference = ObjectReference()


class SlicePort(Struct, frozen=True, rename="camel"):
    """ports[] of an EndpointSlice."""

    port: PortNumber | None = None
    name: str = ""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class EndpointSlice(Struct, frozen=True, rename="camel"):
    """A discovery.k8s.io/v1 EndpointSlice."""

    metadata: ObjectMeta
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: Annotated[tuple[SliceEndpoint, ...], Meta(max_length=1000)] = ()
    ports: Annotated[tuple[SlicePort, ...], Meta(max_length=100)] = ()


class Pod(Struct, frozen=True, rename="camel"):
    """A core/v1 Pod: its existence and identity."""

    metadata: ObjectMeta


class GrantFrom(Struct, frozen=True, rename="camel"):
    """spec.from[] of a ReferenceGrant."""

    group: str
    kind: str
    namespace: Label


class GrantTo(Struct, frozen=True, rename="camel"):
    """spec.to[] of a ReferenceGrant. An empty name grants all."""

    group: str
    kind: str
    name: str = ""


class ReferenceGrantSpec(Struct, frozen=True, rename="camel"):
    """spec of a ReferenceGrant."""

    from_: Annotated[tuple[GrantFrom, ...], Meta(min_length=1, max_length=16)] = field(name="from")
    to: Annotated[tuple[GrantTo, ...], Meta(min_length=1, max_length=16)]


class ReferenceGrant(Struct, frozen=True, rename="camel"):
    """A gateway.networking.k8s.io/v1beta1 or v1 ReferenceGrant."""

    metadata: ObjectMeta
    spec: ReferenceGrantSpec
