"""All routes together: what is in force on each service port, and each route's status.

A port has routes of one kind. Where there are several, the more specific kind has it, whichever is older
(GEP-1294, "Route types").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from meshd.gateway.attachment import Attachment, attachments, without_ports
from meshd.gateway.filters import UnsupportedValueError
from meshd.gateway.precedence import Ranked
from meshd.gateway.references import Backends
from meshd.gateway.route_status import parent_statuses
from meshd.gateway.rules import ranked_routes
from meshd.gateway.shaping import PortKey, Shaping
from meshd.kube.grpcroute import GRPCRoute, RequestRoute, RequestRule
from meshd.kube.objects import Key
from meshd.model.routes import Route
from meshd.model.status import ParentStatus, Problem, Severity

_Place = tuple[PortKey, str]
"""A port and a consumer (Attachment.consumer)."""


@dataclass(slots=True)
class Attached:
    """What all routes come to."""

    ranked: dict[PortKey, dict[str, list[Ranked]]] = field(default_factory=dict)
    """By port and consumer."""
    kinds: dict[_Place, str] = field(default_factory=dict)
    """Of the routes there."""
    accepted: dict[Key, RequestRoute] = field(default_factory=dict)
    """The version of each route that is in force, to fall back on should the next one not be accepted."""
    parents: dict[Key, tuple[ParentStatus, ...]] = field(default_factory=dict)
    problems: dict[Key, list[Problem]] = field(default_factory=dict)

    def routes(self, port: PortKey) -> dict[str, tuple[Route, ...]]:
        """The routes of a port by consumer, in order of precedence. Groups do not mix (GEP-1294)."""
        return {
            consumer: tuple(ranked.route for ranked in sorted(entries, key=lambda r: r[:-1]))
            for consumer, entries in sorted(self.ranked.get(port, {}).items())
        }


def attach_all(
    routes: Mapping[Key, RequestRoute],
    last_accepted: Mapping[Key, RequestRoute],
    backends: Backends,
    shaping: Shaping,
) -> Attached:
    """Attach all routes; ``routes``: those of more specific kinds first.

    Several of a kind on one port are merged by precedence: none replaces another.
    """
    result = Attached()
    for key, route in routes.items():
        problems = result.problems.setdefault(key, [])
        problems.extend(_meaningless(route))
        found = _without_conflicts(key, attachments(route, backends.services), result)
        if not found:
            continue
        unresolved = backends.unresolved(route)
        mirrors = backends.unresolved_mirrors(route)
        resolution = (*unresolved, *(each for each in mirrors if each not in unresolved))
        try:
            _put(key, route, found, backends, shaping, result)
        except UnsupportedValueError as error:
            problems.append(Problem(field=error.field, message=error.message))
            result.parents[key] = parent_statuses(found, resolution, error.reason, str(error))
            last = last_accepted.get(key)
            if last is not None:
                again = _without_conflicts(key, attachments(last, backends.services), result)
                _put(key, last, again, backends, shaping, result)
                result.accepted[key] = last
                message = "its last accepted version stays in force"
                problems.append(Problem(message=message, severity=Severity.WARNING))
            continue
        result.accepted[key] = route
        result.parents[key] = parent_statuses(found, resolution)
        problems.extend(Problem(field="spec.parentRefs", message=a.message) for a in found if a.message)
        gets = "UNAVAILABLE" if isinstance(route, GRPCRoute) else "500"
        problems.extend(
            Problem(
                field="spec.rules", message=f"{u.message}; its requests get {gets}", severity=Severity.WARNING
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


def _meaningless(route: RequestRoute) -> Iterator[Problem]:
    """What a route says that means nothing for a Service."""
    if route.spec.hostnames:
        message = (
            "hostnames mean nothing for a route attached to a Service (GEP-1294); "
            "match on the header Host instead"
        )
        yield Problem(field="spec.hostnames", message=message, severity=Severity.WARNING)
    if not route.spec.rules:
        yield Problem(
            field="spec.rules", message="there are none: it does nothing", severity=Severity.WARNING
        )


def _without_conflicts(key: Key, found: list[Attachment], result: Attached) -> list[Attachment]:
    """The attachments without the ports that a more specific kind has; one that loses all is refused."""

    def left(attachment: Attachment) -> Attachment:
        def holder(port: int) -> str:
            other = result.kinds.get(((attachment.service, port), attachment.consumer), key.kind)
            return other if other != key.kind else ""

        return without_ports(attachment, key.kind, holder)

    return [left(each) for each in found]


def _put(
    key: Key,
    route: RequestRoute,
    found: list[Attachment],
    backends: Backends,
    shaping: Shaping,
    result: Attached,
) -> None:
    """Rank a route's rules on all ports it is attached to, all or nothing. Raises UnsupportedValueError."""
    places = {((a.service, port), a.consumer) for a in found for port in a.ports}
    # Even a route that is attached nowhere is checked, so that its author hears of it.
    ranked_routes(route, 0, backends)
    ranked = {each: ranked_routes(route, each[0][1], backends) for each in places}
    rules: Sequence[RequestRule] = route.spec.rules
    for (port, consumer), entries in ranked.items():
        if not entries:
            continue
        result.kinds[port, consumer] = key.kind
        result.ranked.setdefault(port, {}).setdefault(consumer, []).extend(
            each._replace(route=shaping.of_rule(each.route, key, rules[each.rule], port)) for each in entries
        )
