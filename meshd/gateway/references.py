"""Whether a backendRef leads somewhere: kind, grant, service, port, protocol."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshd.gateway.protocols import Declared, declared
from meshd.kube.httproute import BackendObjectReference, HTTPRoute, ParentRef
from meshd.kube.objects import ReferenceGrant, Service

GATEWAY_GROUP = "gateway.networking.k8s.io"


def is_service(ref: ParentRef) -> bool:
    """Whether a parentRef is for the mesh; other parents are other controllers' business."""
    return ref.group in ("", "core") and ref.kind == "Service"


def service_parents(route: HTTPRoute) -> frozenset[tuple[str, str]]:
    """Namespace and name of the Services that a route names as parents.

    It may send requests back to them without a ReferenceGrant: its callers call them anyway.
    """
    return frozenset(
        (ref.namespace or route.metadata.namespace, ref.name)
        for ref in route.spec.parent_refs
        if is_service(ref)
    )


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Why a backend cannot be used, in Gateway API's reasons for ResolvedRefs."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Backends:
    """All that a backendRef may lead to."""

    services: Mapping[tuple[str, str], Service]
    grants: Iterable[ReferenceGrant]

    def cluster(self, ref: BackendObjectReference, route: HTTPRoute) -> str:
        """The cluster of a backendRef in a route.

        For one that does not resolve it is a name that no cluster can have, which the proxy answers with 500.
        """
        target = ref.namespace or route.metadata.namespace
        name = f"{target}/{ref.name}:{ref.port}"
        return name if self.resolves(ref, route) else f"unresolved/{name}"

    def resolves(self, ref: BackendObjectReference, route: HTTPRoute) -> bool:
        """Whether a backendRef in a route leads to something."""
        return self._problem(ref, route, ref.namespace or route.metadata.namespace) is None

    def unresolved(self, route: HTTPRoute) -> tuple[Unresolved, ...]:
        """All that is wrong with a route's backendRefs, each once."""
        return self._unresolved(route, (ref for rule in route.spec.rules for ref in rule.backend_refs))

    def unresolved_mirrors(self, route: HTTPRoute) -> tuple[Unresolved, ...]:
        """All that is wrong with the backendRefs of its mirrors, each once."""
        rules = route.spec.rules
        filters = itertools.chain(
            (item for rule in rules for item in rule.filters),
            (item for rule in rules for ref in rule.backend_refs for item in ref.filters),
        )
        mirrors = (item.request_mirror for item in filters if item.request_mirror is not None)
        return self._unresolved(route, (mirror.backend_ref for mirror in mirrors))

    def _unresolved(self, route: HTTPRoute, refs: Iterator[BackendObjectReference]) -> tuple[Unresolved, ...]:
        namespace = route.metadata.namespace
        found = (self._problem(ref, route, ref.namespace or namespace) for ref in refs)
        return tuple(dict.fromkeys(problem for problem in found if problem is not None))

    def _problem(self, ref: BackendObjectReference, route: HTTPRoute, target: str) -> Unresolved | None:
        if (ref.group, ref.kind) not in (("", "Service"), ("core", "Service")):
            kind = f"{ref.group}/{ref.kind}" if ref.group else ref.kind
            return Unresolved("InvalidKind", f"{kind} is not supported; use a Service")
        called = f"Service {target}/{ref.name}"
        namespace = route.metadata.namespace
        if (
            target != namespace
            and (target, ref.name) not in service_parents(route)
            and not self._granted(ref.name, namespace, target)
        ):
            message = f"no ReferenceGrant in namespace {target} lets HTTPRoutes of {namespace} use {called}"
            return Unresolved("RefNotPermitted", message)
        service = self.services.get((target, ref.name))
        if service is None:
            return Unresolved("BackendNotFound", f"{called} does not exist")
        if service.spec.type == "ExternalName":
            message = f"{called} is of type ExternalName, which may lead out of the mesh (GEP-1294)"
            return Unresolved("BackendNotFound", message)
        for port in service.spec.ports:
            if port.port == ref.port and port.protocol == "TCP":
                if declared(port) is Declared.OPAQUE:
                    said = port.app_protocol or port.name
                    message = f"{called} port {ref.port} is declared to speak {said}, not HTTP/1.1"
                    return Unresolved("UnsupportedProtocol", message)
                return None
        return Unresolved("BackendNotFound", f"{called} has no TCP port {ref.port}")

    def _granted(self, name: str, namespace: str, target: str) -> bool:
        return any(
            grant.metadata.namespace == target
            and any(
                (f.group, f.kind, f.namespace) == (GATEWAY_GROUP, "HTTPRoute", namespace)
                for f in grant.spec.from_
            )
            and any(
                t.group in ("", "core") and t.kind == "Service" and t.name in ("", name)
                for t in grant.spec.to
            )
            for grant in self.grants
        )
