"""TLSRoute and TCPRoute (gateway.networking.k8s.io/v1, apis/v1/tlsroute_types.go, tcproute_types.go), with
the CRDs' own bounds.

Of the experimental channel, release v1.6.1. TLSRoute v1alpha3 is the same as v1; so is TCPRoute v1alpha2, but
that it may have further rules, which have no meaning: nothing tells them apart.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from meshd.kube.grpcroute import RequestRoute
from meshd.kube.httproute import Hostname, ParentRef, WeightedRef
from meshd.kube.objects import ObjectMeta


class L4Rule(Struct, frozen=True, rename="camel"):
    """rules[]."""

    backend_refs: Annotated[tuple[WeightedRef, ...], Meta(min_length=1, max_length=16)]
    name: Annotated[str, Meta(max_length=253)] = ""


L4Rules = Annotated[tuple[L4Rule, ...], Meta(min_length=1, max_length=1)]


class TLSRouteSpec(Struct, frozen=True, rename="camel"):
    """spec."""

    hostnames: Annotated[tuple[Hostname, ...], Meta(min_length=1, max_length=1024)]
    rules: L4Rules
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()


class TLSRoute(Struct, frozen=True, rename="camel"):
    """A gateway.networking.k8s.io TLSRoute."""

    metadata: ObjectMeta
    spec: TLSRouteSpec


class TCPRouteSpec(Struct, frozen=True, rename="camel"):
    """spec."""

    rules: L4Rules
    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()


class TCPRoute(Struct, frozen=True, rename="camel"):
    """A gateway.networking.k8s.io TCPRoute."""

    metadata: ObjectMeta
    spec: TCPRouteSpec


L4Route = TLSRoute | TCPRoute
"""The kinds of routes that decide on each connection."""
AnyRoute = RequestRoute | L4Route
