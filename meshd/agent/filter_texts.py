"""What a route does with a request besides sending it on, for people who ask (``meshd explain``). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.agent.matching import headers_hold
from meshd.agent.policy_text import http2_effects
from meshd.agent.views import percent_text, string_text
from meshd.model.listeners import FailurePolicy, Listener
from meshd.model.request_policies import MILLION, Cors, Fault, Mirror, RateLimit, TokenBucket
from meshd.model.routes import Forward, Route, VirtualHost
from meshd.model.view import ExplainedRequest


def filter_texts(
    listener: Listener, host: VirtualHost, route: Route, request: ExplainedRequest
) -> Iterator[str]:
    """A line for each, in the order in which they come."""
    forward = route.action if isinstance(route.action, Forward) else None
    if route.match.share < MILLION:
        yield f"share: requests that draw under {percent_text(route.match.share)}; others are a later route's"
    if route.cors is not None and forward is not None:
        yield f"cors: {_cors(route.cors)}"
    if route.fault is not None:
        applies = headers_hold(route.fault.headers, request)
        yield f"fault: {_fault(route.fault)}{'' if applies else ' (not this request)'}"
    limit, owner = route.rate_limit, "the route's"
    if limit is None:
        limit, owner = host.rate_limit, "the service's"
    if limit is not None:
        yield f"rate limit: {_rate_limit(limit)} ({owner}, on this node)"
    for mirror in forward.mirrors if forward else ():
        yield f"mirror: {_mirror(mirror)}"
    if listener.http.access_log_share < MILLION:
        yield f"access log: {percent_text(listener.http.access_log_share)} of the requests"
    for effect in http2_effects(listener.http.http2):
        yield f"clients: {effect}"
    yield from failure_texts(listener)


def failure_texts(listener: Listener) -> Iterator[str]:
    """What becomes of connections that no worker can take, where it is not the default."""
    if listener.failure_policy is FailurePolicy.CLOSED:
        yield "failure policy: closed, connections are refused while no proxy is alive"


def _cors(cors: Cors) -> str:
    origins = (f"{'~' if each.regex else ''}{each.value}" for each in cors.origins)
    parts = [f"origins {', '.join(origins) or 'none'}"]
    parts += [f"{what} {', '.join(names)}" for what, names in _lists(cors) if names]
    if cors.credentials:
        parts.append("with credentials")
    if cors.forward_unmatched:
        parts.append("other origins' preflights go on")
    return "; ".join(parts)


def _lists(cors: Cors) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "methods", cors.methods
    yield "headers", cors.headers
    yield "exposes", cors.expose


def _fault(fault: Fault) -> str:
    by_header = "as the request asks"
    parts = []
    if fault.delay_share and (fault.delay or fault.by_header):
        length = by_header if fault.by_header else f"{fault.delay:g} s"
        parts.append(f"delay {length} for {percent_text(fault.delay_share)}")
    if fault.abort_share and (fault.abort or fault.by_header):
        status = by_header if fault.by_header else str(fault.abort)
        parts.append(f"abort {status} for {percent_text(fault.abort_share)}")
    if fault.headers:
        parts.append("only " + " ".join(string_text(header) for header in fault.headers))
    return "; ".join(parts) or "none"


def _rate_limit(limit: RateLimit) -> str:
    parts = []
    if limit.all is not None:
        parts.append(f"{_bucket(limit.all)} together")
    if limit.each_client is not None:
        parts.append(f"{_bucket(limit.each_client)} for each client")
    return ", ".join(parts) or "none"


def _bucket(bucket: TokenBucket) -> str:
    return f"{bucket.tokens} in {bucket.interval:g} s (at once {bucket.burst})"


def _mirror(mirror: Mirror) -> str:
    return mirror.cluster if mirror.share == MILLION else f"{mirror.cluster} for {percent_text(mirror.share)}"
