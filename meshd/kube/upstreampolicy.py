"""UpstreamPolicy (meshd.io/v1alpha1): how a Service's endpoints are used, by whichever route leads to them.

The CRD is made from these structs (meshd/kube/crds.py). Defaults are Envoy's where Envoy has the thing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from meshd.kube.cross_fields import (
    CrossRule,
    at_least_one,
    at_most_one,
    distinct,
    exactly_one,
    lasts,
    not_more,
)
from meshd.kube.httproute import MAX_INT32, Duration, PreciseHostname
from meshd.kube.loadbalancing import LoadBalancing
from meshd.kube.objects import ObjectMeta, PortNumber
from meshd.kube.policy_fields import Count, KeepAlive, Percent, SectionName, TargetName

Thousandths = Annotated[int, Meta(ge=0, le=1_000_000)]
Status = Annotated[int, Meta(ge=100, le=599)]


class UpstreamTarget(Struct, frozen=True, rename="camel"):
    """The Service, or one port of it, that the policy is for."""

    group: Annotated[Literal[""], Meta(description="The core group.")]
    kind: Annotated[Literal["Service"], Meta(description="What it is.")]
    name: TargetName
    section_name: Annotated[
        SectionName | None, Meta(description="The name of one of the Service's ports; unset: all of them.")
    ] = None


class StatusRange(Struct, frozen=True, rename="camel"):
    """Statuses from start to end, both included."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (not_more("start", "end"),)

    start: Annotated[Status, Meta(description="The first.")]
    end: Annotated[Status, Meta(description="The last.")]


class HttpProbe(Struct, frozen=True, rename="camel"):
    """GET on a path."""

    path: Annotated[str, Meta(description="Begins with a slash.", max_length=1024, pattern=r"^/[!-~]*\Z")]
    host: Annotated[
        PreciseHostname | None, Meta(description="Host of the request; unset: the Service's name in DNS.")
    ] = None
    expected_statuses: Annotated[
        tuple[StatusRange, ...],
        Meta(description="Of a healthy endpoint; unset: 200.", max_length=16),
    ] = ()


class GrpcProbe(Struct, frozen=True, rename="camel"):
    """The service grpc.health.v1.Health says SERVING."""

    service: Annotated[
        str, Meta(max_length=1024, description="Which it is asked for; unset: the server as a whole.")
    ] = ""
    authority: Annotated[
        PreciseHostname | None, Meta(description="Of the request; unset: the Service's name in DNS.")
    ] = None


class TcpProbe(Struct, frozen=True, rename="camel"):
    """A connection can be made."""


class HealthCheck(Struct, frozen=True, rename="camel"):
    """Each node asks the endpoints that its workloads use whether they are well."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        exactly_one("http", "grpc", "tcp"),
        lasts("interval", "100ms"),
        lasts("timeout", "1ms"),
    )

    http: Annotated[HttpProbe | None, Meta(description="Ask with a GET.")] = None
    grpc: Annotated[GrpcProbe | None, Meta(description="Ask by gRPC, without TLS.")] = None
    tcp: Annotated[TcpProbe | None, Meta(description="Ask with a connection.")] = None
    interval: Annotated[Duration, Meta(description="From one question to the next.")] = "10s"
    timeout: Annotated[Duration, Meta(description="An answer that takes longer is a failure.")] = "5s"
    unhealthy_threshold: Annotated[
        Count, Meta(description="So many failures in a row make an endpoint unhealthy.")
    ] = 3
    healthy_threshold: Annotated[
        Count, Meta(description="So many successes in a row make it healthy again.")
    ] = 2
    port: Annotated[PortNumber | None, Meta(description="Asked there; unset: at the endpoint's port.")] = None


class OutlierDetection(Struct, frozen=True, rename="camel"):
    """An endpoint that answers badly is left out for a time."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        lasts("interval", "100ms"),
        lasts("base_ejection_time", "1ms"),
        lasts("max_ejection_time", "1ms"),
    )

    consecutive_5xx: Annotated[
        int,
        Meta(ge=0, le=MAX_INT32, description="So many answers of 500 to 599 in a row eject. 0: off."),
    ] = field(default=5, name="consecutive5xx")
    consecutive_gateway_errors: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_INT32,
            description="So many of 502, 503, 504 and failed connections in a row eject. 0: off.",
        ),
    ] = 0
    interval: Annotated[
        Duration, Meta(description="How often success rates and latencies are compared, and who comes back.")
    ] = "10s"
    base_ejection_time: Annotated[
        Duration, Meta(description="For how long, times how often the endpoint has been ejected.")
    ] = "30s"
    max_ejection_time: Annotated[Duration, Meta(description="For how long at most.")] = "300s"
    max_ejected_percent: Annotated[
        Percent, Meta(description="Of the endpoints, that are ejected at a time; one always may be.")
    ] = 10
    success_rate_factor: Annotated[
        Thousandths,
        Meta(
            description="Ejects whose success rate is so many thousandths of a standard deviation under the "
            "mean. 0: off."
        ),
    ] = 1900
    latency_factor: Annotated[
        Thousandths,
        Meta(
            description="Ejects whose mean response time is over so many thousandths of the median of all "
            "endpoints' means. 0: off."
        ),
    ] = 0
    minimum_hosts: Annotated[
        Count, Meta(description="With fewer endpoints of enough requests, rates and latencies eject nobody.")
    ] = 5
    minimum_requests: Annotated[
        Count, Meta(description="Of an endpoint in an interval, for its rate and latency to count.")
    ] = 100


class RetryBudget(Struct, frozen=True, rename="camel"):
    """Retries as a share of the requests."""

    percent: Annotated[Percent, Meta(description="Of the active requests, that may be retries.")] = 20
    min_retries: Annotated[
        int, Meta(ge=0, le=MAX_INT32, description="Allowed however few requests there are.")
    ] = 3


class Limits(Struct, frozen=True, rename="camel"):
    """What a node lets out to the Service at a time; beyond: 503. What is unset has no limit."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (at_most_one("retries", "retry_budget"),)

    connections: Annotated[Count | None, Meta(description="Connections.")] = None
    pending_requests: Annotated[Count | None, Meta(description="Requests that wait for a connection.")] = None
    requests: Annotated[Count | None, Meta(description="Requests.")] = None
    retries: Annotated[Count | None, Meta(description="Requests that are sent again.")] = None
    retry_budget: Annotated[
        RetryBudget | None, Meta(description="In place of retries: a share of the requests.")
    ] = None


class UpstreamTimeouts(Struct, frozen=True, rename="camel"):
    """Of connections to the endpoints."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (lasts("connect", "1ms"),)

    connect: Annotated[Duration, Meta(description="For a connection to be made.")] = "5s"
    idle: Annotated[Duration, Meta(description="How long one may wait for a request. 0s: no limit.")] = "1h"


class UpstreamPolicySpec(Struct, frozen=True, rename="camel"):
    """What the policy is for, and what it says. A field that is unset is left to a less specific policy."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        distinct("target_refs"),
        at_least_one(
            *("load_balancing", "health_check", "outlier_detection"),
            *("limits", "timeouts", "keep_alive"),
        ),
    )

    target_refs: Annotated[
        tuple[UpstreamTarget, ...],
        Meta(
            min_length=1, max_length=16, description="Services of the policy's namespace, or ports of them."
        ),
    ]
    load_balancing: Annotated[LoadBalancing | None, Meta(description="Who gets a request.")] = None
    health_check: Annotated[HealthCheck | None, Meta(description="Ask endpoints if they are well.")] = None
    outlier_detection: Annotated[
        OutlierDetection | None, Meta(description="Leave out endpoints that answer badly.")
    ] = None
    limits: Annotated[Limits | None, Meta(description="What a node lets out at a time.")] = None
    timeouts: Annotated[UpstreamTimeouts | None, Meta(description="Of connections.")] = None
    keep_alive: Annotated[
        KeepAlive | None,
        Meta(
            description="Servers of HTTP/2 are asked whether they are there; unset: those that have had "
            "requests and said nothing for 330 s are."
        ),
    ] = None


class UpstreamPolicy(Struct, frozen=True, rename="camel"):
    """How a Service's endpoints are used: balancing, health, limits, timeouts."""

    metadata: ObjectMeta
    spec: UpstreamPolicySpec
