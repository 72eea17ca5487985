"""The Kubernetes objects that the lab acts upon itself, with the fields that it honours.

Everything else in a manifest (HTTPRoute, policies, ...) is passed on to the control plane as it is. Field
names and defaults are those of the Kubernetes API (v1, apps/v1, discovery.k8s.io/v1).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=86400)]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Struct(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of the objects: camelCase in YAML, immutable, defaults left out when written."""


class Metadata(Struct, frozen=True):
    """ObjectMeta, as far as the lab reads it."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class FieldRef(Struct, frozen=True):
    """ObjectFieldSelector of the downward API."""

    field_path: str


class ValueFrom(Struct, frozen=True):
    """EnvVarSource: the lab has fieldRef."""

    field_ref: FieldRef


class EnvVar(Struct, frozen=True):
    """An environment variable; ``value`` may refer to earlier ones as $(NAME)."""

    name: str
    value: str = ""
    value_from: ValueFrom | None = None


class ContainerPort(Struct, frozen=True):
    """A port that a Service may refer to by name. Nothing is opened or closed by it."""

    container_port: Port
    name: str = ""
    protocol: str = "TCP"


class HTTPHeader(Struct, frozen=True):
    """A header field that an HTTP probe sends."""

    name: str
    value: str


class HTTPGetAction(Struct, frozen=True):
    """Probe by HTTP GET: 200 to 399 is success."""

    port: int | str
    path: str = "/"
    scheme: Literal["HTTP"] = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = msgspec.field(default=(), name="httpHeaders")


class TCPSocketAction(Struct, frozen=True):
    """Probe by connect."""

    port: int | str


class ExecAction(Struct, frozen=True):
    """Run a command in the pod; exit code 0 is success."""

    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Probe(Struct, frozen=True):
    """A readiness probe. Exactly one of the actions must be given."""

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    initial_delay_seconds: Seconds = 0
    period_seconds: Positive = 10
    timeout_seconds: Positive = 1
    success_threshold: Positive = 1
    failure_threshold: Positive = 3


class SleepAction(Struct, frozen=True):
    """Wait."""

    seconds: Seconds


class LifecycleHandler(Struct, frozen=True):
    """What to do before SIGTERM. Exactly one must be given."""

    exec: ExecAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Struct, frozen=True):
    """Container lifecycle hooks: the lab has preStop."""

    pre_stop: LifecycleHandler | None = None


class Container(Struct, frozen=True):
    """A container: one process of the host's file system. The image is not used."""

    name: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    working_dir: str = ""
    readiness_probe: Probe | None = None
    lifecycle: Lifecycle = Lifecycle()


class PodSpec(Struct, frozen=True):
    """What a pod runs and where."""

    containers: Annotated[tuple[Container, ...], msgspec.Meta(min_length=1)]
    node_name: str = ""
    service_account_name: str = "default"
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: Seconds = 30


class Pod(Struct, frozen=True):
    """v1 Pod."""

    metadata: Metadata
    spec: PodSpec


class TemplateMetadata(Struct, frozen=True):
    """ObjectMeta of a pod template: the pods' names are made."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(Struct, frozen=True):
    """PodTemplateSpec."""

    spec: PodSpec
    metadata: TemplateMetadata = TemplateMetadata()


class LabelSelector(Struct, frozen=True):
    """The lab has matchLabels."""

    match_labels: dict[str, str]


class RollingUpdate(Struct, frozen=True):
    """How far a rollout may go above and below the wanted number; counts or percentages."""

    max_surge: int | str = 1
    max_unavailable: int | str = 0


class Strategy(Struct, frozen=True):
    """DeploymentStrategy. The default, one more and none less, is Kubernetes' 25 % up to 3 replicas."""

    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class DeploymentSpec(Struct, frozen=True):
    """What a Deployment keeps running."""

    selector: LabelSelector
    template: PodTemplate
    replicas: Annotated[int, msgspec.Meta(ge=0, le=200)] = 1
    strategy: Strategy = Strategy()


class Deployment(Struct, frozen=True):
    """apps/v1 Deployment."""

    metadata: Metadata
    spec: DeploymentSpec


class ServicePort(Struct, frozen=True):
    """A port of a Service."""

    port: Port
    name: str = ""
    protocol: Literal["TCP", "UDP"] = "TCP"
    target_port: int | str | None = None


class ServiceSpec(Struct, frozen=True):
    """How pods are reached under one name. NodePort and LoadBalancer are served as ClusterIP."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    publish_not_ready_addresses: bool = False


class Service(Struct, frozen=True):
    """v1 Service."""

    metadata: Metadata
    spec: ServiceSpec

    @property
    def headless(self) -> bool:
        """No VIP: the name resolves to the pods."""
        return self.spec.cluster_ip == "None"


class Namespace(Struct, frozen=True):
    """v1 Namespace; its labels and annotations may keep pods out of the mesh."""

    metadata: Metadata


class ObjectReference(Struct, frozen=True):
    """Whose address an endpoint is."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


class EndpointConditions(Struct, frozen=True):
    """What is known of an endpoint; absent means ready (EndpointConditions, discovery.k8s.io/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class SliceEndpoint(Struct, frozen=True):
    """One server of a slice."""

    addresses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    conditions: EndpointConditions = EndpointConditions()
    target_ref: ObjectReference | None = None
    node_name: str | None = None

    @property
    def ready(self) -> bool:
        """Gets new connections."""
        return self.conditions.ready is not False

    @property
    def draining(self) -> bool:
        """Still serves while it terminates."""
        return bool(self.conditions.terminating) and self.conditions.serving is not False


class SlicePort(Struct, frozen=True):
    """A port that all endpoints of a slice have."""

    port: int | None = None
    name: str = ""
    protocol: str = "TCP"


class EndpointSlice(Struct, frozen=True):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    @property
    def service(self) -> tuple[str, str]:
        """Namespace and name of the Service that it belongs to; the name is empty without the label."""
        return self.metadata.namespace, self.metadata.labels.get("kubernetes.io/service-name", "")
