"""Which policy is for what, and what several come to: direct attachment (GEP-713, GEP-2648).

For one target there is one policy of a kind, the oldest. Of policies for a thing and for what it is part of,
the more specific wins, field by field of the spec: a port of a Service before the Service, a rule of a
route before the route, and that before the Service's port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import msgspec

from meshd.gateway.precedence import created
from meshd.kube.collection import Objects
from meshd.kube.grpcroute import RequestRoute, RequestRule
from meshd.kube.objects import Key, Service
from meshd.kube.routepolicy import RoutePolicy, RoutePolicySpec
from meshd.kube.upstreampolicy import UpstreamPolicy, UpstreamPolicySpec
from meshd.model.status import Condition, ParentReference, ParentStatus, Problem

_Spec = TypeVar("_Spec", UpstreamPolicySpec, RoutePolicySpec)


class Target(NamedTuple):
    """What a policy is for."""

    kind: str
    namespace: str
    name: str
    section: str = ""
    """The name of a port or rule; empty: all of them."""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" + (f" {self.section}" if self.section else "")


class Merged(NamedTuple, Generic[_Spec]):
    """What the policies for a thing come to."""

    spec: _Spec | None
    """None: there is none. Its targetRefs mean nothing."""
    names: tuple[str, ...] = ()
    """Of those that something is from: ``RoutePolicy shop/limits``."""


_InForce = dict[Target, tuple[str, _Spec]]
"""The policy in force for a target: its name for people, and what it says."""


@dataclass(slots=True)
class Policies:
    """All policies, attached."""

    _upstream: _InForce[UpstreamPolicySpec] = field(default_factory=dict)
    _route: _InForce[RoutePolicySpec] = field(default_factory=dict)
    statuses: dict[Key, tuple[ParentStatus, ...]] = field(default_factory=dict)
    problems: dict[Key, list[Problem]] = field(default_factory=dict)

    def upstream(self, service: tuple[str, str], port: str) -> Merged[UpstreamPolicySpec]:
        """For a port of a Service, given its name."""
        return _merged(self._upstream, "Service", service, port)

    def port(self, service: tuple[str, str], port: str) -> Merged[RoutePolicySpec]:
        """For the requests to a port of a Service, given its name, wherever they are routed."""
        return _merged(self._route, "Service", service, port)

    def rule(self, route: Key, rule: str) -> Merged[RoutePolicySpec]:
        """For a rule of a route, given its name."""
        return _merged(self._route, route.kind, (route.namespace, route.name), rule)


def _merged(in_force: _InForce[_Spec], kind: str, key: tuple[str, str], section: str) -> Merged[_Spec]:
    whole = Target(kind, *key)
    part = whole._replace(section=section) if section else whole
    least, most = in_force.get(whole), in_force.get(part)
    if least is None or most is None or part == whole:
        only = most or least
        return Merged(None) if only is None else Merged(only[1], (only[0],))
    own = {name: value for name, value in msgspec.structs.asdict(most[1]).items() if value is not None}
    names = (most[0], least[0])
    taken = any(
        value is not None for name, value in msgspec.structs.asdict(least[1]).items() if name not in own
    )
    return Merged(msgspec.structs.replace(least[1], **own), names if taken else names[:1])


def attach(objects: Objects) -> Policies:
    """Attach all policies of all kinds."""
    found = Policies()
    missing = _Missing(objects.services, objects.routes)
    for key, upstream in sorted(objects.of(UpstreamPolicy).items(), key=_age):
        _attach(found, found._upstream, Key("UpstreamPolicy", *key), upstream.spec, missing)
    for key, route in sorted(objects.of(RoutePolicy).items(), key=_age):
        _attach(found, found._route, Key("RoutePolicy", *key), route.spec, missing)
    return found


@dataclass(frozen=True, slots=True)
class _Missing:
    """What of a target does not exist; empty: nothing."""

    services: Mapping[tuple[str, str], Service]
    routes: Mapping[Key, RequestRoute]

    def __call__(self, target: Target) -> str:
        whole = target._replace(section="")
        if target.kind == "Service":
            service = self.services.get((target.namespace, target.name))
            sections = None if service is None else [port.name for port in service.spec.ports]
            part = "port"
        else:
            route = self.routes.get(Key(*whole[:3]))
            rules: Sequence[RequestRule] | None = None if route is None else route.spec.rules
            sections = None if rules is None else [rule.name for rule in rules]
            part = "rule"
        if sections is None:
            return f"{whole} does not exist"
        if target.section and target.section not in sections:
            return f"{whole} has no {part} named {target.section}"
        return ""


def _attach(
    result: Policies, in_force: _InForce[_Spec], key: Key, spec: _Spec, missing: Callable[[Target], str]
) -> None:
    statuses: list[ParentStatus] = []
    for i, ref in enumerate(spec.target_refs):
        target = Target(ref.kind, key.namespace, ref.name, ref.section_name or "")
        reason, message = "TargetNotFound", missing(target)
        if not message:
            holder, _ = in_force.setdefault(target, (str(key), spec))
            if holder != str(key):
                reason, message = "Conflicted", f"{holder} comes first, and is for {target} already"
        if message:
            problem = Problem(field=f"spec.targetRefs[{i}]", message=message)
            result.problems.setdefault(key, []).append(problem)
        accepted = Condition(
            type="Accepted", status=not message, reason=reason if message else "Accepted", message=message
        )
        reference = ParentReference(
            group=ref.group, kind=ref.kind, name=ref.name, section_name=target.section
        )
        statuses.append(ParentStatus(parent=str(target), ref=reference, conditions=(accepted,)))
    result.statuses[key] = tuple(statuses)


def _age(item: tuple[tuple[str, str], UpstreamPolicy | RoutePolicy]) -> tuple[object, ...]:
    key, policy = item
    return created(policy.metadata), key
