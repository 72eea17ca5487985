"""Manifests for the translation's tests, and what they come to."""

from __future__ import annotations

import json
from collections.abc import Mapping

from meshd.gateway.translate import Translation, translate
from meshd.kube.collection import Collection
from meshd.kube.grpcroute import RequestRoute
from meshd.kube.objects import Key
from meshd.model.routes import Route
from meshd.model.status import Condition, ObjectStatus

Object = dict[str, object]
PARENT = {"group": "", "kind": "Service", "name": "web"}


def service(
    name: str = "web",
    *ports: Mapping[str, object],
    ip: str = "10.96.0.1",
    namespace: str = "default",
    annotations: Mapping[str, str] | None = None,
    **spec: object,
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "annotations": dict(annotations or {})},
        "spec": {"clusterIP": ip, "ports": list(ports) or [{"port": 80}], **spec},
    }


def endpoint_slice(service: str, *endpoints: Mapping[str, object], **fields: object) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": fields.pop("name", f"{service}-1"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": list(endpoints),
        **fields,
    }


def grpc_route(*rules: Mapping[str, object], name: str = "g", **fields: object) -> Object:
    return http_route(*rules, name=name, kind="GRPCRoute", **fields)


def call(service: str = "", method: str = "", kind: str = "Exact", **fields: object) -> Object:
    """A rule with one match and web:80 as its backend, unless said otherwise."""
    match: Object = (
        {"method": {"type": kind, "service": service, "method": method}} if service + method else {}
    )
    if "headers" in fields:
        match["headers"] = fields.pop("headers")
    return {"matches": [match], "backendRefs": [{"name": "web", "port": 80}], **fields}


def http_route(
    *rules: Mapping[str, object], name: str = "r", kind: str = "HTTPRoute", **fields: object
) -> Object:
    metadata = {"name": name, "namespace": fields.pop("namespace", "default")}
    if "created" in fields:
        metadata["creationTimestamp"] = fields.pop("created")
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"parentRefs": [PARENT], "rules": list(rules), **fields},
    }


def rule(path: str = "/", kind: str = "PathPrefix", **fields: object) -> Object:
    """A rule with one match and web:80 as its backend, unless said otherwise."""
    match = {"path": {"type": kind, "value": path}} | {
        field: fields.pop(field) for field in ("method", "headers", "queryParams") if field in fields
    }
    return {"matches": [match], "backendRefs": [{"name": "web", "port": 80}], **fields}


def translated(*objects: Object, last: Mapping[Key, RequestRoute] | None = None) -> Translation:
    text = "---\n".join(json.dumps(item) + "\n" for item in objects)
    return translate(Collection().update({"all.yaml": text}), last or {})


def routes(translation: Translation, name: str = "default/web:80") -> tuple[Route, ...]:
    (host,) = translation.snapshot.route_configs[name].virtual_hosts
    assert host.domains == ("*",)
    return host.routes


def status(translation: Translation, name: str, kind: str = "HTTPRoute") -> ObjectStatus:
    (found,) = (s for s in translation.status.objects if (s.kind, s.name) == (kind, name))
    return found


def condition(translation: Translation, name: str, kind: str = "Accepted", parent: int = 0) -> Condition:
    (found,) = (c for c in status(translation, name).parents[parent].conditions if c.type == kind)
    return found


def problems(translation: Translation, name: str, kind: str = "HTTPRoute") -> list[str]:
    return [f"{p.field}: {p.message}" for p in status(translation, name, kind).problems]
