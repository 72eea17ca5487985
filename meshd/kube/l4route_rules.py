"""What an API server holds TLSRoutes and TCPRoutes to beyond their types: the CRDs' CEL rules."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.kube.l4routes import L4Route, TLSRoute
from meshd.kube.route_rules import backend_problems, parent_problems
from meshd.kube.service_rules import is_ip
from meshd.model.status import Problem


def problems(route: L4Route) -> Iterator[Problem]:
    """All that is wrong with a route by itself."""
    yield from parent_problems(route.spec.parent_refs)
    for i, rule in enumerate(route.spec.rules):
        for j, backend in enumerate(rule.backend_refs):
            yield from backend_problems(backend, f"spec.rules[{i}].backendRefs[{j}]")
    if isinstance(route, TLSRoute):
        for i, name in enumerate(route.spec.hostnames):
            if is_ip(name):
                # RFC 6066, 3: a client does not ask for a server by address.
                yield Problem(field=f"spec.hostnames[{i}]", message=f"{name} is an address, not a name")
