"""RoutePolicy (meshd.io/v1alpha1): what is done with the requests of a Service, HTTPRoute or GRPCRoute.

The CRD is made from these structs (meshd/kube/crds.py).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from meshd.kube.cross_fields import CrossRule, at_least_one, camel, distinct, lasts, not_more, not_with
from meshd.kube.httproute import GATEWAY_GROUP, Duration
from meshd.kube.objects import ObjectMeta
from meshd.kube.policy_fields import Count, HeaderMatch, KeepAlive, SectionName, Share, TargetName

AnswerStatus = Annotated[int, Meta(ge=200, le=599)]
GROUPS = {"Service": "", "HTTPRoute": GATEWAY_GROUP, "GRPCRoute": GATEWAY_GROUP}
"""Of the kinds that a policy can be for."""


class RouteTarget(Struct, frozen=True, rename="camel"):
    """The Service, HTTPRoute or GRPCRoute, or one port or rule of it, that the policy is for."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        CrossRule(
            'must be "" for a Service, gateway.networking.k8s.io for a route',
            "(self.kind == 'Service') == (self.group == '')",
            lambda target: target.group == GROUPS[target.kind],
            "group",
        ),
    )

    group: Annotated[
        Literal["", "gateway.networking.k8s.io"],
        Meta(description='"" for a Service, gateway.networking.k8s.io for a route.'),
    ]
    kind: Annotated[Literal["Service", "HTTPRoute", "GRPCRoute"], Meta(description="What it is.")]
    name: TargetName
    section_name: Annotated[
        SectionName | None,
        Meta(description="The name of a port of the Service or of a rule of the route; unset: all."),
    ] = None


class Timeouts(Struct, frozen=True, rename="camel"):
    """How long requests may take."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (at_least_one("request", "grpc_deadline"),)

    request: Annotated[
        Duration | None,
        Meta(description="From the request's last byte to the answer's last byte. 0s: no limit."),
    ] = None
    grpc_deadline: Annotated[
        Duration | None,
        Meta(
            description="A gRPC call's own deadline is kept by the mesh, too, and is no longer than this. "
            "0s: however long it is."
        ),
    ] = None


class Retry(Struct, frozen=True, rename="camel"):
    """Requests are sent again whose connection fails or ends unanswered, or which get some statuses."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (distinct("grpc_statuses"), distinct("statuses"))

    attempts: Annotated[Count, Meta(description="Besides the first.")] = 1
    grpc_statuses: Annotated[
        tuple[Literal["Cancelled", "DeadlineExceeded", "Internal", "ResourceExhausted", "Unavailable"], ...],
        Meta(max_length=5, description="Of answers to gRPC calls that have no message."),
    ] = ()
    statuses: Annotated[
        tuple[Annotated[int, Meta(ge=400, le=599)], ...],
        Meta(max_length=16, description="Of answers, as HTTP has them."),
    ] = ()
    per_try_timeout: Annotated[
        Duration | None,
        Meta(description="For a try's answer to begin; then it has failed, and is followed by another."),
    ] = None
    backoff: Annotated[
        Duration | None,
        Meta(description="The least wait before a try, doubled each time; unset: 25ms on average, jittered."),
    ] = None


class TokenBucket(Struct, frozen=True, rename="camel"):
    """So many requests in an interval, and at once no more than burst."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (lasts("interval", "50ms"), not_more("requests", "burst"))

    requests: Annotated[Count, Meta(description="That pass in an interval.")]
    interval: Annotated[Duration, Meta(description="In which so many pass.")] = "1s"
    burst: Annotated[
        Count | None, Meta(description="That pass at once after a quiet time; unset: as many as requests.")
    ] = None


class RateLimit(Struct, frozen=True, rename="camel"):
    """How many requests pass, on each node; others are answered 429."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (at_least_one("all", "each_client"),)

    all: Annotated[TokenBucket | None, Meta(description="All requests together.")] = None
    each_client: Annotated[TokenBucket | None, Meta(description="Those of each client address.")] = None


class Delay(Share, frozen=True, rename="camel"):
    """Requests that wait before they go on."""

    duration: Annotated[Duration, Meta(description="For how long.")] = "1s"


class Abort(Share, frozen=True, rename="camel"):
    """Requests that are answered with a failure."""

    status: Annotated[AnswerStatus, Meta(description="Of the answer.")] = 503


class Fault(Struct, frozen=True, rename="camel"):
    """Delays and failures that are wanted, to see what callers make of them."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        at_least_one("delay", "abort", "by_header"),
        not_with("delay", "by_header"),
        not_with("abort", "by_header"),
    )

    delay: Annotated[Delay | None, Meta(description="Let requests wait.")] = None
    abort: Annotated[Abort | None, Meta(description="Let requests fail.")] = None
    by_header: Annotated[
        Share | None,
        Meta(
            description="A request asks for its fault by x-envoy-fault-delay-request (milliseconds) and "
            "x-envoy-fault-abort-request (status); at most this share of those gets it."
        ),
    ] = None
    headers: Annotated[
        tuple[HeaderMatch, ...],
        Meta(max_length=16, description="Only requests that have all of these; unset: all requests."),
    ] = ()


class DirectResponse(Struct, frozen=True, rename="camel"):
    """Requests are answered by the mesh, and go nowhere."""

    status: Annotated[AnswerStatus, Meta(description="Of the answer.")]
    body: Annotated[str, Meta(max_length=4096, description="Of the answer, as text/plain.")] = ""


def _services_only(field: str) -> CrossRule:
    return CrossRule(
        "may only be set where all targetRefs are Services",
        f"!has(self.{camel(field)}) || self.targetRefs.all(target, target.kind == 'Service')",
        lambda spec: getattr(spec, field) is None or all(t.kind == "Service" for t in spec.target_refs),
        field,
    )


class RoutePolicySpec(Struct, frozen=True, rename="camel"):
    """What the policy is for, and what it says. A field that is unset is left to a less specific policy."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        distinct("target_refs"),
        at_least_one(
            *("timeouts", "retry", "rate_limit", "fault", "direct_response"),
            *("fast_path", "access_log", "failure_policy", "keep_alive"),
        ),
        _services_only("access_log"),
        _services_only("failure_policy"),
        _services_only("keep_alive"),
    )

    target_refs: Annotated[
        tuple[RouteTarget, ...],
        Meta(
            min_length=1,
            max_length=16,
            description="Services and routes in the policy's namespace, or ports and rules of them.",
        ),
    ]
    timeouts: Annotated[
        Timeouts | None, Meta(description="How long requests may take, where a route does not say so itself.")
    ] = None
    retry: Annotated[
        Retry | None, Meta(description="Send requests again, where a route does not say when itself.")
    ] = None
    rate_limit: Annotated[RateLimit | None, Meta(description="Let only so many requests pass.")] = None
    fault: Annotated[Fault | None, Meta(description="Delay requests or let them fail.")] = None
    direct_response: Annotated[
        DirectResponse | None, Meta(description="Answer instead of sending requests on.")
    ] = None
    fast_path: Annotated[
        Literal["Enabled", "Disabled"] | None,
        Meta(description="Whether the kernel may carry requests past the proxy; Enabled by default."),
    ] = None
    access_log: Annotated[
        Share | None, Meta(description="Services only: which requests are logged; all by default.")
    ] = None
    failure_policy: Annotated[
        Literal["Open", "Closed"] | None,
        Meta(
            description="Services only: whether new connections go on as plain TCP (Open, the default) or "
            "are refused (Closed) while no proxy is alive."
        ),
    ] = None
    keep_alive: Annotated[
        KeepAlive | None,
        Meta(
            description="Services only: clients of HTTP/2 are asked whether they are there; by default they "
            "are not."
        ),
    ] = None


class RoutePolicy(Struct, frozen=True, rename="camel"):
    """What is done with requests: timeouts, retries, limits, faults, direct responses, fast path, log."""

    metadata: ObjectMeta
    spec: RoutePolicySpec
