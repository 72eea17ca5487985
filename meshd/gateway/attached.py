"""All HTTPRoutes together: what is in force on each service port, and each route's status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshd.gateway.attachment import Attachment, attachments
from meshd.gateway.filters import UnsupportedValueError
from meshd.gateway.precedence import Ranked
from meshd.gateway.references import Backends
from meshd.gateway.route_status import parent_statuses
from meshd.gateway.rules import ranked_routes
from meshd.gateway.shaping import PortKey, Shaping
from meshd.kube.httproute import HTTPRoute
from meshd.model.routes import Route
from meshd.model.status import ParentStatus, Problem, Severity

RouteKey = tuple[str, str]


@dataclass(slots=True)
class Attached:
    """What all routes come to."""

    ranked: dict[PortKey, dict[str, list[Ranked]]] = field(default_factory=dict)
    """By port and consumer (Attachment.consumer)."""
    accepted: dict[RouteKey, HTTPRoute] = field(default_factory=dict)
    """The version of each route that is in force, to fall back on should the next one not be accepted."""
    parents: dict[RouteKey, tuple[ParentStatus, ...]] = field(default_factory=dict)
    problems: dict[RouteKey, list[Problem]] = field(default_factory=dict)

    def routes(self, port: PortKey) -> dict[str, tuple[Route, ...]]:
        """The routes of a port by consumer, in order of precedence. Groups do not mix (GEP-1294)."""
        return {
            consumer: tuple(ranked.route for ranked in sorted(entries, key=lambda r: r[:-1]))
            for consumer, entries in sorted(self.ranked.get(port, {}).items())
        }


def attach_all(
    routes: Mapping[RouteKey, HTTPRoute],
    last_accepted: Mapping[RouteKey, HTTPRoute],
    backends: Backends,
    shaping: Shaping,
) -> Attached:
    """Attach all routes. Several routes on one port are merged by precedence: none replaces another."""
    result = Attached()
    for key, route in routes.items():
        problems = result.problems.setdefault(key, [])
        if route.spec.hostnames:
            message = (
                "hostnames mean nothing for a route attached to a Service (GEP-1294); "
                "match on the header Host instead"
            )
            problems.append(Problem(field="spec.hostnames", message=message, severity=Severity.WARNING))
        found = attachments(route, backends.services)
        if not found:
            continue
        unresolved = backends.unresolved(route)
        mirrors = backends.unresolved_mirrors(route)
        resolution = (*unresolved, *(each for each in mirrors if each not in unresolved))
        try:
            _put(route, found, backends, shaping, result)
        except UnsupportedValueError as error:
            problems.append(Problem(field=error.field, message=error.message))
            result.parents[key] = parent_statuses(found, resolution, error.reason, str(error))
            last = last_accepted.get(key)
            if last is not None:
                _put(last, attachments(last, backends.services), backends, shaping, result)
                result.accepted[key] = last
                message = "its last accepted version stays in force"
                problems.append(Problem(message=message, severity=Severity.WARNING))
            continue
        result.accepted[key] = route
        result.parents[key] = parent_statuses(found, resolution)
        problems.extend(Problem(field="spec.parentRefs", message=a.message) for a in found if a.reason)
        problems.extend(
            Problem(
                field="spec.rules", message=f"{u.message}; its requests get 500", severity=Severity.WARNING
            )
            for u in unresolved
        )
        problems.extend(
            Problem(
                field="spec.rules",
                message=f"{m.message}; nothing is mirrored there",
                severity=Severity.WARNING,
            )
            for m in mirrors
        )
    return result


def _put(
    route: HTTPRoute, found: list[Attachment], backends: Backends, shaping: Shaping, result: Attached
) -> None:
    """Rank a route's rules on all ports it is attached to, all or nothing. Raises UnsupportedValueError."""
    ports = {((a.service, port), a.consumer) for a in found for port in a.ports}
    # Even a route that is attached nowhere is checked, so that its author hears of it.
    ranked_routes(route, 0, backends)
    ranked = {each: ranked_routes(route, each[0][1], backends) for each in ports}
    key = route.metadata.namespace, route.metadata.name
    for (port, consumer), entries in ranked.items():
        result.ranked.setdefault(port, {}).setdefault(consumer, []).extend(
            each._replace(route=shaping.of_rule(each.route, key, route.spec.rules[each.rule].name, port))
            for each in entries
        )
