"""What an API server holds our policies to beyond their types, and what none can: regexes that compile."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.kube import cross_fields
from meshd.kube.regex_rules import header_problems
from meshd.kube.routepolicy import RoutePolicy
from meshd.kube.upstreampolicy import UpstreamPolicy
from meshd.model.status import Problem


def policy_problems(policy: UpstreamPolicy | RoutePolicy) -> Iterator[Problem]:
    """All that is wrong with a policy by itself."""
    yield from cross_fields.problems(policy.spec, "spec")
    if isinstance(policy, RoutePolicy) and policy.spec.fault is not None:
        yield from header_problems(policy.spec.fault.headers, "spec.fault.headers")
