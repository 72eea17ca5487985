"""The official conformance suite's cases as data: Services and routes, requests and what is expected.

From kubernetes-sigs/gateway-api, release v1.6.1, conformance/tests: ``source`` of each case names its two
files there (.yaml and .go). All cases are applied at once, so each has a Service of its own in place of the
suite's; "<case>" stands for its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

NAMESPACE = "conformance"
OTHER_NAMESPACE = "conformance-other"
_FOLDER = Path(__file__).parent / "cases"
_GATEWAY = "gateway.networking.k8s.io/v1"
_PORTS = [
    {"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"},
    {"name": "http-alt", "port": 8080, "appProtocol": "http"},
    {"name": "http-third", "port": 8090, "targetPort": 8080, "appProtocol": "http"},
]
_BACKENDS: tuple[tuple[str, str, dict[str, str], dict[str, str]], ...] = (
    (NAMESPACE, "echo-v1", {"version": "v1"}, {}),
    (NAMESPACE, "echo-v2", {"version": "v2"}, {}),
    (NAMESPACE, "echo-v3", {"version": "v3"}, {}),
    (NAMESPACE, "echo-headless", {"version": "v1"}, {"clusterIP": "None"}),
    ("conformance-other", "echo-other", {"version": "other"}, {}),
    ("conformance-other", "echo-granted", {"version": "other"}, {}),
    ("conformance-other", "echo-revoked", {"version": "other"}, {}),
)
_ECHO = {"app": "echo"}


def policy(kind: str, name: str, target: dict[str, str], spec: dict[str, Any]) -> dict[str, object]:
    """A policy of ours."""
    metadata = {"name": name, "namespace": NAMESPACE}
    spec = {"targetRefs": [target], **spec}
    return {"apiVersion": "meshd.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


_NAMED = "meshhttproutenamedrule"
_GATEWAY_GROUP = "gateway.networking.k8s.io"
POLICIES = [
    policy("UpstreamPolicy", "timed", {"group": "", "kind": "Service", "name": "echo-v2"}, {
        "timeouts": {"connect": "4s"},
    }),
    policy("RoutePolicy", "named", {
        "group": _GATEWAY_GROUP, "kind": "HTTPRoute", "name": _NAMED, "sectionName": "named-rule",
    }, {"fastPath": "Disabled"}),
    policy("RoutePolicy", "nowhere", {"group": "", "kind": "Service", "name": "nowhere"}, {
        "fastPath": "Disabled",
    }),
]  # fmt: skip
"""Policies of ours, which change no answer: not the suite's, but shown by the same commands as its routes."""


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a message must be like. Header fields of one name are joined by commas."""

    path: str = ""
    headers: dict[str, str | tuple[str, ...]] = {}
    """Of several values any."""
    absent: tuple[str, ...] = ()


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request, and what it must lead to."""

    path: str
    """UNIQUE in it is another text each time that it is sent."""
    method: str = "GET"
    headers: dict[str, str] = {}
    host: str = "<case>"
    service: str = "<case>"
    pod: str = ""
    """To this pod's address instead of to a service."""
    port: int = 80
    source: str = NAMESPACE
    """The client's namespace."""
    echo: dict[str, str] = {}
    """Header fields that the server is to answer with."""
    times: int = 3
    """How often, on one connection."""
    status: int = 200
    to: str | tuple[str, ...] = ()
    """The pod, or pods, that may answer."""
    split: dict[str, float] = {}
    """Their shares."""
    location: str = ""
    preflight: bool = False
    """A CORS preflight: 200 or 204 by the proxy itself, or 403 where nothing is allowed."""
    mirrored: dict[str, float] = {}
    """The pods that get copies, and of which share of the requests."""
    seen: Message = Message()
    """The request as the server gets it."""
    answer: Message = Message()


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A path whose requests go to one pod once a session is there."""

    path: str
    cookie: str = ""
    header: str = ""
    """What the session is by: one of the two."""
    proxies: tuple[str, ...] = ("meshd", "Envoy")
    """Behind which it holds."""
    attributes: dict[str, str] = {}
    """Of the cookie; those of path and max-age that are not here it must not have."""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the suite's tests."""

    name: str
    source: str
    requests: tuple[Request, ...]
    routes: tuple[dict[str, Any], ...] = ()
    """HTTPRoute specs, with ``name`` and ``namespace`` where they matter."""
    grants: tuple[dict[str, Any], ...] = ()
    """ReferenceGrant specs, with ``namespace``."""
    sessions: tuple[Session, ...] = ()
    services: tuple[str, ...] = ()
    """Versions that the case wants a Service of its own for: <case>-v1."""
    conditions: dict[str, str] = {}
    """Of the first route: condition's type to its reason."""
    note: str = ""
    """How it differs from the suite's."""

    @property
    def slug(self) -> str:
        """Its name as a Service's."""
        return self.name.lower()


def _load() -> Iterator[Case]:
    for path in sorted(_FOLDER.glob("*.yaml")):
        for raw in yaml.safe_load(path.read_text()):
            text = json.dumps(msgspec.to_builtins(msgspec.convert(raw, Case)))
            yield msgspec.json.decode(text.replace("<case>", raw["name"].lower()), type=Case)


CASES = tuple(_load())


def manifests() -> list[dict[str, object]]:
    """All objects but the pods."""
    found = [service(*backend) for backend in _BACKENDS]
    for case in CASES:
        services = {case.slug: _ECHO} | {f"{case.slug}-{each}": {"version": each} for each in case.services}
        found += [service(NAMESPACE, name, selector, {}) for name, selector in services.items()]
        found += [_route(case, spec) for spec in case.routes]
        found += [grant(f"{case.slug}-{i}", spec) for i, spec in enumerate(case.grants)]
    return found + POLICIES


def service(namespace: str, name: str, selector: dict[str, str], more: dict[str, str]) -> dict[str, object]:
    """A Service with the suite's ports."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": selector, "ports": _PORTS, **more},
    }


def _route(case: Case, given: dict[str, Any]) -> dict[str, object]:
    spec = {"parentRefs": [{"group": "", "kind": "Service", "name": case.slug, "port": 80}], **given}
    suffix = spec.pop("name", "")
    name = f"{case.slug}-{suffix}" if suffix else case.slug
    metadata = {"name": name, "namespace": spec.pop("namespace", NAMESPACE)}
    return {"apiVersion": _GATEWAY, "kind": "HTTPRoute", "metadata": metadata, "spec": spec}


def grant(name: str, given: dict[str, Any]) -> dict[str, object]:
    """A ReferenceGrant, in the other namespace where the spec names none."""
    spec = dict(given)
    metadata = {"name": name, "namespace": spec.pop("namespace", OTHER_NAMESPACE)}
    return {"apiVersion": _GATEWAY, "kind": "ReferenceGrant", "metadata": metadata, "spec": spec}
