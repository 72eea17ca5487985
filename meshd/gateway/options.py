"""How ports are treated: a Service's ``meshd.io`` annotations, and the RoutePolicies that win over these."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshd.gateway.keepalive import http2_options
from meshd.gateway.policies import Merged
from meshd.gateway.shares import parts_per_million
from meshd.kube.objects import Service
from meshd.kube.routepolicy import RoutePolicySpec
from meshd.model.listeners import FailurePolicy, HttpOptions
from meshd.model.status import Problem, Severity
from meshd.workloads.membership import MESH_KEY

FAILURE_POLICY = "meshd.io/failure-policy"
"""``open`` or ``closed``: what happens to new connections when no proxy is alive."""
FORWARD_HEADERS = "meshd.io/forward-headers"
"""Which header fields the proxy adds: ``none``, or a comma-separated list of those below. By default all but
via, which shuts the service out from the fast path."""
FAST_PATH = "meshd.io/fast-path"
"""``on`` or ``off``: whether the kernel may carry the service's requests past the proxy."""
TCP_FAST_PATH = "meshd.io/tcp-fast-path"
"""``on`` or ``off``, the default: whether the kernel joins the two ends of opaque TCP connections."""
HTTP2_FAST_PATH = "meshd.io/http2-fast-path"
"""``on`` or ``off``, the default: whether HTTP/2 connections are spliced, each with one to one server."""
VIA = "1.1 meshd"
"""What the proxy calls itself, where it is to be named (RFC 9110, 7.6.3)."""
_OURS = (FAILURE_POLICY, FORWARD_HEADERS, FAST_PATH, TCP_FAST_PATH, HTTP2_FAST_PATH)
_PREFIX = "meshd.io/"
_FIELDS = ("x-forwarded-for", "x-forwarded-proto", "x-request-id", "via")
_ELSEWHERE = frozenset({MESH_KEY})
"""Annotations of ours that others read."""


def _warning(annotation: str, message: str) -> Problem:
    return Problem(field=f"metadata.annotations[{annotation}]", message=message, severity=Severity.WARNING)


class ServiceOptions(NamedTuple):
    """What a Service's annotations say."""

    failure_policy: FailurePolicy
    http: HttpOptions
    tcp_fast_path: bool
    http2_fast_path: bool


def service_options(service: Service) -> tuple[ServiceOptions, list[Problem]]:
    """What the annotations say, and what is wrong with them."""
    policy, problems = _failure_policy(service)
    http, more = _http_options(service)
    _, bad = fast_path(service)
    tcp_fast_path, worse = _switch(service, TCP_FAST_PATH, False)
    http2_fast_path, worst = _switch(service, HTTP2_FAST_PATH, False)
    said = ServiceOptions(policy, http, tcp_fast_path, http2_fast_path)
    return said, [*problems, *more, *bad, *worse, *worst, *_unknown(service)]


def _failure_policy(service: Service) -> tuple[FailurePolicy, tuple[Problem, ...]]:
    """The service's failure policy; the default, open, where it is not given or wrong."""
    value = service.metadata.annotations.get(FAILURE_POLICY, FailurePolicy.OPEN.value)
    try:
        return FailurePolicy(value), ()
    except ValueError:
        allowed = " or ".join(policy.value for policy in FailurePolicy)
        problem = _warning(FAILURE_POLICY, f"{value!r} must be {allowed}; open is used")
        return FailurePolicy.OPEN, (problem,)


def _http_options(service: Service) -> tuple[HttpOptions, tuple[Problem, ...]]:
    """The service's HTTP options; the defaults where they are not given or wrong."""
    default = HttpOptions()
    value = service.metadata.annotations.get(FORWARD_HEADERS)
    if value is None:
        return default, ()
    named = {part.strip().lower() for part in value.split(",")}
    if named == {"none"}:
        named = set()
    elif not named <= set(_FIELDS):
        message = f"{value!r} must be none, or a list out of {', '.join(_FIELDS)}; the default is used"
        return default, (_warning(FORWARD_HEADERS, message),)
    options = HttpOptions(
        forwarded_for="x-forwarded-for" in named,
        forwarded_proto="x-forwarded-proto" in named,
        request_id="x-request-id" in named,
        via=VIA if "via" in named else "",
    )
    return options, ()


def fast_path(service: Service) -> tuple[bool, tuple[Problem, ...]]:
    """Whether requests may take the fast path; the default, that they may, where it is not given or wrong."""
    return _switch(service, FAST_PATH, True)


def _switch(service: Service, annotation: str, default: bool) -> tuple[bool, tuple[Problem, ...]]:
    """What an annotation says that is on or off."""
    used = "on" if default else "off"
    value = service.metadata.annotations.get(annotation, used)
    if value in ("on", "off"):
        return value == "on", ()
    return default, (_warning(annotation, f"{value!r} must be on or off; {used} is used"),)


def failure_policy_of(policies: Merged[RoutePolicySpec], annotated: FailurePolicy) -> FailurePolicy:
    """A port's failure policy."""
    said = None if policies.spec is None else policies.spec.failure_policy
    return annotated if said is None else FailurePolicy(said.lower())


def http_options_of(policies: Merged[RoutePolicySpec], annotated: HttpOptions) -> HttpOptions:
    """A port's HTTP options."""
    spec = policies.spec
    if spec is None:
        return annotated
    share = annotated.access_log_share if spec.access_log is None else parts_per_million(spec.access_log)
    http2 = http2_options(spec.keep_alive)
    return msgspec.structs.replace(annotated, access_log_share=share, http2=http2)


def says_of_connections(policies: Merged[RoutePolicySpec]) -> bool:
    """Whether policies say anything that TCP connections have."""
    spec = policies.spec
    return spec is not None and (spec.failure_policy is not None or spec.access_log is not None)


def overridden(service: Service, policies: Merged[RoutePolicySpec]) -> tuple[Problem, ...]:
    """Warnings about annotations that say what a policy says, too."""
    spec = policies.spec
    if spec is None:
        return ()
    by_policy = {FAILURE_POLICY: spec.failure_policy, FAST_PATH: spec.fast_path}
    return tuple(
        _warning(name, f"{' and '.join(policies.names)} says it, too, and wins")
        for name, said in by_policy.items()
        if said is not None and name in service.metadata.annotations
    )


def _unknown(service: Service) -> tuple[Problem, ...]:
    """Warnings about annotations with our prefix that nobody reads: misspelt ones."""
    return tuple(
        _warning(name, f"no such annotation; there are {', '.join(_OURS)}")
        for name in sorted(service.metadata.annotations)
        if name.startswith(_PREFIX) and name not in {*_OURS, *_ELSEWHERE}
    )
