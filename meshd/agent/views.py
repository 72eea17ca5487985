"""The agent's state as the documents of meshd.model.view. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from meshd.agent.health.marks import By, Mark, Marks
from meshd.agent.totals import RequestKey, RequestTotal
from meshd.model.clusters import Endpoint, Health
from meshd.model.listeners import Listener
from meshd.model.request_policies import MILLION, StringMatch
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    PathExact,
    PathMatch,
    PathPrefix,
    PathRegex,
    Redirect,
    Route,
    RouteMatch,
)
from meshd.model.snapshot import Snapshot
from meshd.model.view import EndpointView, RouteView, ServiceView

Requests = Mapping[RequestKey, RequestTotal]


def service_views(
    snapshot: Snapshot,
    requests: Requests,
    carried: Requests | None = None,
    upcalls: Mapping[tuple[str, str], int] | None = None,
) -> tuple[ServiceView, ...]:
    """All service ports by name. ``service`` of a request's key is the listener's name.

    ``carried``: those of the requests that the kernel carried. ``upcalls``: by service and reason.
    """
    counts = requests_by_service(requests)
    fast = requests_by_service(carried or {})
    reasons: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (service, reason), count in (upcalls or {}).items():
        reasons[service][reason] = count
    return tuple(
        ServiceView(
            name=listener.name,
            addresses=listener.addresses,
            port=listener.port,
            protocol=listener.protocol.value,
            failure_policy=listener.failure_policy.value,
            routes=sum(1 for _ in _routes(snapshot, listener)),
            endpoints=len(_endpoints(snapshot, listener)),
            healthy=sum(1 for e in _endpoints(snapshot, listener) if e.health is Health.HEALTHY),
            requests=counts[listener.name],
            fast_requests=fast[listener.name],
            upcalls=reasons.get(listener.name, {}),
        )
        for _, listener in sorted(snapshot.listeners.items())
    )


def requests_by_service(requests: Requests) -> Counter[str]:
    """How many there were of each service."""
    counts: Counter[str] = Counter()
    for key, total in requests.items():
        counts[key[0]] += total.count
    return counts


def route_views(snapshot: Snapshot, requests: Requests) -> tuple[RouteView, ...]:
    """All routes by service port, in the order in which they are tried."""
    counts: Counter[tuple[str, str]] = Counter()
    for key, total in requests.items():
        counts[key[0], key[1]] += total.count
    return tuple(
        RouteView(
            service=listener.name,
            callers=namespace,
            name=route.name,
            match=match_text(route.match),
            action=action_text(route.action),
            requests=counts[listener.name, route.name],
        )
        for _, listener in sorted(snapshot.listeners.items())
        for namespace in listener.caller_namespaces
        for route in _routes(snapshot, listener.seen_from(namespace))
    )


def endpoint_views(snapshot: Snapshot, marks: Marks, now: float) -> tuple[EndpointView, ...]:
    """All endpoints by cluster. ``marks``: who is left out by our own say; ``now``: by their clock."""
    return tuple(
        _endpoint_view(name, endpoint, marks.get(name, {}).get((endpoint.address, endpoint.port)), now)
        for name, endpoints in sorted(snapshot.endpoints.items())
        for endpoint in endpoints.endpoints
    )


def left_out_views(snapshot: Snapshot, marks: Marks, now: float) -> Iterator[EndpointView]:
    """Of those that are marked."""
    for name, at in sorted(marks.items()):
        found = snapshot.endpoints.get(name)
        for endpoint in found.endpoints if found is not None else ():
            mark = at.get((endpoint.address, endpoint.port))
            if mark is not None:
                yield _endpoint_view(name, endpoint, mark, now)


def _endpoint_view(cluster: str, endpoint: Endpoint, mark: Mark | None, now: float) -> EndpointView:
    healthy = endpoint.health is Health.HEALTHY and mark is None
    return EndpointView(
        cluster=cluster,
        address=endpoint.address,
        port=endpoint.port,
        weight=endpoint.weight,
        priority=endpoint.priority,
        locality=endpoint.locality,
        health=endpoint.health.value,
        workload=endpoint.workload,
        by="" if healthy else (By.CONTROL_PLANE if mark is None else mark.by).value,
        reason="" if mark is None else mark.reason,
        seconds=None if mark is None else max(0.0, round(now - mark.since, 3)),
    )


def match_text(match: RouteMatch) -> str:
    """A match in a line: ``GET /api/* x-user=tester``."""
    parts = [match.method or "*", _path_text(match.path)]
    parts += [string_text(header) for header in match.headers]
    parts += [f"?{string_text(query)}" for query in match.query]
    if match.share < MILLION:
        parts.append(f"draw under {percent_text(match.share)}")
    return " ".join(parts)


def action_text(action: Action) -> str:
    """What a route does, in a line: ``default/web-v1:80 (90), default/web-v2:80 (10)``."""
    match action:
        case Forward(clusters=clusters):
            if len(clusters) == 1:
                return clusters[0].name
            return ", ".join(f"{cluster.name} ({cluster.weight})" for cluster in clusters)
        case Redirect(status=status):
            return f"redirect {status}"
        case DirectResponse(status=status):
            return f"answer {status}"


def _path_text(path: PathMatch) -> str:
    match path:
        case PathExact(value=value):
            return value
        case PathPrefix(value=value):
            return value.rstrip("/") + "/*"
        case PathRegex(value=value):
            return f"~{value}"


def percent_text(share: int) -> str:
    """A share of parts per million, as ``12.5 %``."""
    return f"{100 * share / MILLION:g} %"


def string_text(match: StringMatch) -> str:
    """``name=value``, or ``name~pattern``."""
    return f"{match.name}{'~' if match.regex else '='}{match.value}"


def _routes(snapshot: Snapshot, listener: Listener) -> Iterator[Route]:
    config = snapshot.route_configs.get(listener.route_config)
    for host in config.virtual_hosts if config is not None else ():
        yield from host.routes


def _endpoints(snapshot: Snapshot, listener: Listener) -> tuple[Endpoint, ...]:
    found = snapshot.endpoints.get(listener.cluster)
    return found.endpoints if found is not None else ()
