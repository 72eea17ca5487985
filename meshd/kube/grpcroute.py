"""GRPCRoute (gateway.networking.k8s.io/v1, apis/v1/grpcroute_types.go), with the CRD's own bounds.

Of the experimental channel, release v1.6.1. What it has in common with HTTPRoute is in httproute.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from meshd.kube.httproute import (
    BackendRef,
    CommonFilter,
    HeaderMatch,
    Hostname,
    HTTPRoute,
    ParentRef,
    Retry,
    RouteMatch,
    Rule,
    SessionPersistence,
    Timeouts,
    WeightedRef,
)
from meshd.kube.objects import ObjectMeta

MethodText = Annotated[str, Meta(max_length=1024)]


class MethodMatch(Struct, frozen=True, rename="camel"):
    """matches[].method."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: MethodText = ""
    """With its package. Empty: any; likewise ``method``."""
    method: MethodText = ""


class GrpcMatch(Struct, frozen=True, rename="camel"):
    """matches[]."""

    method: MethodMatch | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Meta(max_length=16)] = ()


class GrpcBackendRef(WeightedRef, frozen=True, rename="camel"):
    """backendRefs[]."""

    filters: Annotated[tuple[CommonFilter, ...], Meta(max_length=16)] = ()


class GrpcRule(Struct, frozen=True, rename="camel"):
    """rules[]."""

    timeouts: ClassVar[Timeouts] = Timeouts()
    """The API has none; likewise ``retry``. A RoutePolicy may have."""
    retry: ClassVar[Retry | None] = None

    name: Annotated[str, Meta(max_length=253)] = ""
    matches: Annotated[tuple[GrpcMatch, ...], Meta(max_length=64)] = ()
    filters: Annotated[tuple[CommonFilter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[GrpcBackendRef, ...], Meta(max_length=16)] = ()
    session_persistence: SessionPersistence | None = None


class GRPCRouteSpec(Struct, frozen=True, rename="camel"):
    """spec."""

    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[GrpcRule, ...], Meta(max_length=16)] = ()


class GRPCRoute(Struct, frozen=True, rename="camel"):
    """A gateway.networking.k8s.io GRPCRoute."""

    metadata: ObjectMeta
    spec: GRPCRouteSpec


RequestRoute = HTTPRoute | GRPCRoute
"""The kinds of routes that decide on each request."""
RequestRule = Rule | GrpcRule
RequestMatch = RouteMatch | GrpcMatch
RequestBackendRef = BackendRef | GrpcBackendRef
