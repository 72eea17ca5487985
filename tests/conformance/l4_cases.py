"""The official suite's TLSRoute and TCPRoute cases, with a Service of its own as each one's parent.

From kubernetes-sigs/gateway-api, release v1.6.1, conformance/tests, where they are for Gateways; ``source``
of each case names its two files there. The data is in cases/l4.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.conformance.cases import NAMESPACE, OTHER_NAMESPACE, grant
from tests.support.certificates import Certificate

Object = dict[str, Any]
NAMES = ("abc.example.com", "other.example.com", "example.com", "non.matching.org")
"""That the TLS servers have a certificate for: who is refused is refused by the mesh."""
TCP, TLS = 3000, 8443
_GATEWAY = "gateway.networking.k8s.io/v1"
_SERVER = Path(__file__).parents[1] / "e2e" / "pods" / "l4_server.py"
_PORTS = {9300: "one", 9301: "two", 9302: "three", 9303: "four"}
"""The parents': the suite's Gateways have listeners of these names."""
_OTHER_SERVICES = ("l4-other", "l4-granted", "l4-ungranted")
"""Of one pod: which of them a grant is for."""
RESOLVED = {"Accepted": "Accepted", "ResolvedRefs": "ResolvedRefs"}


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connections, and what they must lead to."""

    port: int = 9300
    server_name: str = ""
    """TLS with this name; empty: TCP."""
    to: str = ""
    """The pod that answers; empty, without ``split``: they are reset or closed."""
    split: dict[str, float] = {}
    """Pods' shares."""
    times: int = 3


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the suite's tests."""

    name: str
    source: str
    routes: tuple[Object, ...]
    """Their specs, with ``kind``, ``name`` and ``created`` where they matter."""
    connections: tuple[Connection, ...]
    grants: tuple[Object, ...] = ()
    conditions: dict[str, str] = msgspec.field(default_factory=RESOLVED.copy)
    """Of all its routes: condition's type to its reason."""
    note: str = ""

    @property
    def slug(self) -> str:
        """Its name as a Service's."""
        return self.name.lower()

    @property
    def tls(self) -> bool:
        """Whether it is about TLS."""
        return self.routes[0].get("kind") == "TLSRoute"

    def route(self, given: Object) -> Object:
        """The object of one of its specs."""
        spec = {"parentRefs": [{"group": "", "kind": "Service", "name": self.slug, "port": 9300}], **given}
        suffix, created = spec.pop("name", ""), spec.pop("created", "")
        metadata = {"name": f"{self.slug}-{suffix}" if suffix else self.slug, "namespace": NAMESPACE}
        metadata |= {"creationTimestamp": created} if created else {}
        kind = spec.pop("kind", "TCPRoute")
        return {"apiVersion": _GATEWAY, "kind": kind, "metadata": metadata, "spec": spec}

    def grant_objects(self) -> list[Object]:
        """Its ReferenceGrants."""
        return [grant(f"{self.slug}-{i}", spec) for i, spec in enumerate(self.grants)]


def _load() -> Iterator[Case]:
    for path in sorted((Path(__file__).parent / "cases" / "l4").glob("*.yaml")):
        for raw in yaml.safe_load(path.read_text()):
            text = json.dumps(raw).replace("<case>", raw["name"].lower())
            yield msgspec.json.decode(text, type=Case)


CASES = tuple(_load())
SERVICES = {f"{NAMESPACE}/{case.slug}:{port}" for case in CASES for port in _PORTS}


def _pod(name: str, namespace: str, node: str, certificate: Certificate) -> Object:
    def container(mode: str, port: int, *files: str) -> Object:
        return {
            "name": mode,
            "command": [sys.executable, str(_SERVER), mode, name, str(port), *files],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        }

    files = (str(certificate.certificate), str(certificate.key))
    containers = [container("echo", TCP), container("https", TLS, *files)]
    metadata = {"name": name, "namespace": namespace, "labels": {"l4": name}}
    spec = {"nodeName": node, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _service(name: str, namespace: str, pod: str, ports: list[Object]) -> Object:
    spec = {"selector": {"l4": pod}, "ports": ports}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def manifests(certificate: Certificate) -> list[Object]:
    """Servers, Services, routes and grants. The parents' own pods are those of ``l4-v2``."""
    found = [
        _pod("l4-v1", NAMESPACE, "node1", certificate),
        _pod("l4-v2", NAMESPACE, "node2", certificate),
        _pod("l4-other", OTHER_NAMESPACE, "node2", certificate),
    ]
    both = [{"name": "tcp", "port": TCP}, {"name": "tls", "port": TLS}]
    found += [_service(name, NAMESPACE, name, both) for name in ("l4-v1", "l4-v2")]
    found += [_service(name, OTHER_NAMESPACE, "l4-other", both) for name in _OTHER_SERVICES]
    for case in CASES:
        target = TLS if case.tls else TCP
        ports = [{"name": name, "port": port, "targetPort": target} for port, name in _PORTS.items()]
        found.append(_service(case.slug, NAMESPACE, "l4-v2", ports))
        found += [case.route(spec) for spec in case.routes]
        found += case.grant_objects()
    return found
