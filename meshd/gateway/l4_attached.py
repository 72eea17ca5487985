"""All TLSRoutes and TCPRoutes together: which connections of each service port they take, and their status.

A port has routes of one kind, the more specific one (GEP-1294, "Route types"). Of TLSRoutes for one name the
oldest has it; of TCPRoutes, which nothing tells apart, the oldest has all (GEP-2644). hostnames are what a
client asks for by SNI: without them a TLSRoute would say nothing (GEP-1294 leaves their meaning open).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshd.gateway.attached import Attached
from meshd.gateway.attachment import Attachment, attachments, without_ports
from meshd.gateway.precedence import created
from meshd.gateway.references import Backends
from meshd.gateway.route_status import parent_statuses
from meshd.gateway.shaping import PortKey, Shaping
from meshd.kube.l4routes import L4Route, TLSRoute
from meshd.kube.objects import Key
from meshd.model.routes import WeightedCluster
from meshd.model.status import ParentStatus, Problem, Severity
from meshd.model.tcp_routes import TcpRoute

CONNECT_ATTEMPTS = 4
"""Connections that are tried for a client's: as many as for a request that its route says nothing of."""
_Place = tuple[PortKey, str]
"""A port and a consumer (Attachment.consumer)."""
_ANY = ""
"""Stands for the name of connections that no name takes."""


@dataclass(slots=True)
class L4Attached:
    """What all of these routes come to."""

    taken: dict[_Place, dict[str, Key]] = field(default_factory=dict)
    """Which route has a name."""
    found: dict[PortKey, dict[str, list[TcpRoute]]] = field(default_factory=dict)
    """By port and consumer."""
    parents: dict[Key, tuple[ParentStatus, ...]] = field(default_factory=dict)
    problems: dict[Key, list[Problem]] = field(default_factory=dict)

    def routes(self, port: PortKey) -> dict[str, tuple[TcpRoute, ...]]:
        """The routes of a port by consumer."""
        return {consumer: tuple(several) for consumer, several in sorted(self.found.get(port, {}).items())}


def attach_l4(
    routes: Mapping[Key, L4Route], attached: Attached, backends: Backends, shaping: Shaping
) -> L4Attached:
    """Attach all routes. ``attached``: those of requests, which come before them."""
    result = L4Attached()
    http = {port: kind for (port, _), kind in sorted(attached.kinds.items(), reverse=True)}
    for key, route in sorted(routes.items(), key=lambda item: _precedence(*item)):
        found = [
            _without_conflicts(key.kind, each, http, result) for each in attachments(route, backends.services)
        ]
        if not found:
            continue
        unresolved = backends.unresolved(route)
        result.parents[key] = parent_statuses(found, unresolved)
        problems = result.problems.setdefault(key, [])
        problems.extend(
            Problem(field="spec.parentRefs", message=each.message) for each in found if each.message
        )
        for each in unresolved:
            message = f"{each.message}; its connections are reset"
            problems.append(Problem(field="spec.rules", message=message, severity=Severity.WARNING))
        places = (((each.service, port), each.consumer) for each in found for port in each.ports)
        for place in dict.fromkeys(places):
            problems.extend(_put(key, route, place, backends, shaping, result))
    return result


def _precedence(key: Key, route: L4Route) -> tuple[object, ...]:
    return key.kind != TLSRoute.__name__, created(route.metadata), key


def _without_conflicts(
    kind: str, attachment: Attachment, http: Mapping[PortKey, str], result: L4Attached
) -> Attachment:
    """Without the ports that a more specific kind has."""

    def holder(port: int) -> str:
        place = attachment.service, port
        holders = result.taken.get((place, attachment.consumer), {}).values()
        return http.get(place) or next((each.kind for each in holders if each.kind != kind), "")

    return without_ports(attachment, kind, holder)


def _put(
    key: Key, route: L4Route, place: _Place, backends: Backends, shaping: Shaping, result: L4Attached
) -> Iterator[Problem]:
    """Give a route the names that are free on a port; what it does not get is told."""
    taken = result.taken.setdefault(place, {})
    wanted = route.spec.hostnames if isinstance(route, TLSRoute) else (_ANY,)
    for name in wanted:
        holder = taken.setdefault(name, key)
        if holder != key:
            (namespace, service), port = place[0]
            what = f"connections for {name}" if name else "all connections"
            message = f"{holder} comes first, and has {what} to port {port} of Service {namespace}/{service}"
            yield Problem(message=message, severity=Severity.WARNING)
    names = tuple(name for name in dict.fromkeys(wanted) if taken[name] == key)
    if names:
        (rule,) = route.spec.rules
        name = f"{key.namespace}/{key.name}/{rule.name or 0}"
        routed = TcpRoute(
            name=name,
            server_names=tuple(each for each in names if each != _ANY),
            clusters=_clusters(route, backends, name),
            connect_attempts=CONNECT_ATTEMPTS,
        )
        shaped, problems = shaping.of_connections(routed)
        yield from problems
        result.found.setdefault(place[0], {}).setdefault(place[1], []).append(shaped)


def _clusters(route: L4Route, backends: Backends, name: str) -> tuple[WeightedCluster, ...]:
    """The share of a backend that does not resolve stays: its connections are reset."""
    (rule,) = route.spec.rules
    weights: dict[str, int] = {}
    for ref in rule.backend_refs:
        cluster = backends.cluster(ref, route)
        weights[cluster] = weights.get(cluster, 0) + ref.weight
    found = [WeightedCluster(name=each, weight=weight) for each, weight in weights.items() if weight]
    if not found:
        return (WeightedCluster(name=f"unresolved/{name}"),)
    # The weight of a single one is relative to nothing.
    return tuple(found) if len(found) > 1 else (WeightedCluster(name=found[0].name),)
