"""From a manifest's objects to the lab's types, with errors that name the object and the field. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from meshd.kube.objects import Key
from meshd.lab.manifests import objects
from meshd.lab.manifests.objects import (
    Container,
    Deployment,
    EndpointSlice,
    LifecycleHandler,
    Namespace,
    Pod,
    Probe,
    Service,
)

CLUSTER_SCOPED = frozenset({"Namespace", "GatewayClass"})

Acted = Namespace | Pod | Deployment | Service | EndpointSlice
_KINDS: Mapping[tuple[str, str], type[Acted]] = {
    ("v1", "Namespace"): Namespace,
    ("v1", "Pod"): Pod,
    ("v1", "Service"): Service,
    ("apps/v1", "Deployment"): Deployment,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
}
_API_OF_KIND = {kind: api for api, kind in _KINDS}
_NOT_FOR_THE_LAB = frozenset({"StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"})
_FIELD_REFS = frozenset(
    {"metadata.name", "metadata.namespace", "metadata.uid", "status.podIP", "status.hostIP", "spec.nodeName"}
    | {"spec.serviceAccountName"}
)
_PATH = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)

_T = TypeVar("_T")


class InvalidObjectError(ValueError):
    """An object of a manifest is not as it must be: which, where in it, why."""

    def __init__(self, subject: str, field: str, reason: str) -> None:
        super().__init__(f"{subject}: {field + ': ' if field else ''}{reason}")


class _Meta(msgspec.Struct):
    name: str
    namespace: str | None = None


class _Any(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    metadata: _Meta


def _converted(source: object, kind: type[_T], subject: str) -> _T:
    try:
        return msgspec.convert(source, kind)
    except msgspec.ValidationError as error:
        where = _PATH.fullmatch(str(error))
        reason, field = (where[1], where[2]) if where else (str(error), "")
        raise InvalidObjectError(subject, field, reason[0].lower() + reason[1:]) from None


def key_of(source: object) -> Key:
    """The identity of a Kubernetes object. Raises InvalidObjectError."""
    head = _converted(source, _Any, "object")
    namespace = "" if head.kind in CLUSTER_SCOPED else (head.metadata.namespace or "default")
    return Key(head.kind, namespace, head.metadata.name)


def parse(source: object) -> Acted | None:
    """The typed object, or None for one that the lab only passes on to the control plane.

    Raises InvalidObjectError.
    """
    key = key_of(source)
    head = _converted(source, _Any, str(key))
    for what, value in (("metadata.name", key.name), ("metadata.namespace", key.namespace)):
        # Names of the kinds that become host names must be labels (RFC 1123); the others may have dots.
        labels = value.split(".") if what == "metadata.name" and key.kind != "Service" else [value]
        if value and not (len(value) <= 253 and all(objects.DNS_LABEL.fullmatch(part) for part in labels)):
            raise InvalidObjectError(str(key), what, f"{value!r} is not a lower-case RFC 1123 name")
    if key.kind in _NOT_FOR_THE_LAB:
        raise InvalidObjectError(str(key), "kind", "the lab runs Pod and Deployment; use one of these")
    kind = _KINDS.get((head.api_version, key.kind))
    if kind is None:
        if key.kind in _API_OF_KIND:
            wanted = _API_OF_KIND[key.kind]
            raise InvalidObjectError(str(key), "apiVersion", f"{head.api_version!r} must be {wanted!r}")
        return None
    found: Acted = _converted(source, kind, str(key))
    for field, reason in _problems(found):
        raise InvalidObjectError(str(key), field, reason)
    return found


def _problems(found: Acted) -> Iterator[tuple[str, str]]:
    match found:
        case Pod(spec=spec):
            yield from _pod_problems(spec, "spec")
        case Deployment(spec=spec):
            selector = spec.selector.match_labels
            if not selector:
                yield "spec.selector.matchLabels", "must not be empty"
            elif not selector.items() <= spec.template.metadata.labels.items():
                yield "spec.template.metadata.labels", "must have all labels of spec.selector.matchLabels"
            if spec.template.spec.restart_policy != "Always":
                yield "spec.template.spec.restartPolicy", "a Deployment's pods have Always"
            for name in ("max_surge", "max_unavailable"):
                value = getattr(spec.strategy.rolling_update, name)
                if isinstance(value, str) and not re.fullmatch(r"\d{1,3}%", value):
                    yield (
                        f"spec.strategy.rollingUpdate.{name}",
                        f"{value!r} is neither a number nor a percentage",
                    )
            yield from _pod_problems(spec.template.spec, "spec.template.spec")
        case Service():
            yield from _service_problems(found)


def _pod_problems(spec: objects.PodSpec, at: str) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    for index, container in enumerate(spec.containers):
        where = f"{at}.containers[{index}]"
        if not objects.DNS_LABEL.fullmatch(container.name):
            yield f"{where}.name", f"{container.name!r} is not an RFC 1123 label"
        if container.name in names:
            yield f"{where}.name", f"{container.name!r} is used twice"
        names.add(container.name)
        yield from _container_problems(container, where)


def _container_problems(container: Container, at: str) -> Iterator[tuple[str, str]]:
    if not container.command:
        yield f"{at}.command", "required: the lab does not run images, it starts this command on the host"
    for index, variable in enumerate(container.env):
        if not variable.name or "=" in variable.name:
            yield f"{at}.env[{index}].name", f"{variable.name!r} cannot be a variable's name"
        source = variable.value_from
        if source is not None and source.field_ref.field_path not in _FIELD_REFS:
            path = source.field_ref.field_path
            known = ", ".join(sorted(_FIELD_REFS))
            yield f"{at}.env[{index}].valueFrom.fieldRef.fieldPath", f"{path!r} is not one of {known}"
    names = {port.name for port in container.ports if port.name}
    if container.readiness_probe is not None:
        yield from _probe_problems(container.readiness_probe, names, f"{at}.readinessProbe")
    hook = container.lifecycle.pre_stop
    if hook is not None:
        yield from _exactly_one(hook, ("exec", "sleep"), f"{at}.lifecycle.preStop")


def _probe_problems(probe: Probe, names: set[str], at: str) -> Iterator[tuple[str, str]]:
    yield from _exactly_one(probe, ("http_get", "tcp_socket", "exec"), at)
    for field, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action is None:
            continue
        if isinstance(action.port, str) and action.port not in names:
            yield f"{at}.{field}.port", f"{action.port!r} is not the name of one of the container's ports"
        if isinstance(action.port, int) and not 0 < action.port < 65536:
            yield f"{at}.{field}.port", f"{action.port} is not a port"


def _exactly_one(
    struct: Probe | LifecycleHandler, fields: tuple[str, ...], at: str
) -> Iterator[tuple[str, str]]:
    if sum(getattr(struct, field) is not None for field in fields) != 1:
        names = ", ".join(re.sub(r"_(.)", lambda m: m[1].upper(), field) for field in fields)
        yield at, f"exactly one of {names} must be given"


def _service_problems(service: Service) -> Iterator[tuple[str, str]]:
    spec = service.spec
    if not spec.ports and not service.headless and spec.type != "ExternalName":
        yield "spec.ports", "required"
    names = [port.name for port in spec.ports]
    if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
        yield "spec.ports", "with several ports each needs a name of its own"
    if len({(port.port, port.protocol) for port in spec.ports}) < len(spec.ports):
        yield "spec.ports", "a port is given twice"
    for index, port in enumerate(spec.ports):
        if isinstance(port.target_port, int) and not 0 <= port.target_port < 65536:
            yield f"spec.ports[{index}].targetPort", f"{port.target_port} is not a port"
    for field, value in [("clusterIP", spec.cluster_ip), *(("clusterIPs", ip) for ip in spec.cluster_ips)]:
        if value in ("", "None"):
            continue
        try:
            ipaddress.ip_address(value)
        except ValueError:
            yield f"spec.{field}", f"{value!r} is not an IP address"
