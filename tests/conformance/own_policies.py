"""Services with policies of our own kinds, in the suite's cluster: what they do behind both proxies."""

from __future__ import annotations

from tests.conformance.cases import NAMESPACE, Case, Request, policy, service

_ECHO = {"app": "echo"}


def _target(name: str) -> dict[str, str]:
    return {"group": "", "kind": "Service", "name": name}


_FAULT = {"abort": {"status": 503}, "headers": [{"name": "x-fail", "value": "yes"}]}
_HASHED = {"type": "RingHash", "hashOn": [{"type": "Header", "name": "x-user"}]}
_SPECS = (
    ("RoutePolicy", "answered", {"directResponse": {"status": 418, "body": "tea"}}),
    ("RoutePolicy", "limited", {"rateLimit": {"all": {"requests": 2, "interval": "1h"}}}),
    ("RoutePolicy", "failing", {"fault": _FAULT}),
    ("UpstreamPolicy", "hashed", {"loadBalancing": _HASHED}),
)


def manifests() -> list[dict[str, object]]:
    """The Services, each with the policy of its name."""
    services = [service(NAMESPACE, name, _ECHO, {}) for _, name, _ in _SPECS]
    return services + [policy(kind, name, _target(name), spec) for kind, name, spec in _SPECS]


def _case(name: str, *requests: Request) -> Case:
    return Case(name=name, source="", requests=requests)


CASES = (
    _case("answered", Request(path="/", service="answered", host="answered", status=418)),
    _case(
        "limited",
        Request(path="/", service="limited", host="limited", times=2),
        Request(path="/", service="limited", host="limited", status=429),
    ),
    _case(
        "failing",
        Request(path="/", service="failing", host="failing"),
        Request(path="/", service="failing", host="failing", headers={"x-fail": "yes"}, status=503),
        Request(path="/", service="failing", host="failing", headers={"x-fail": "no"}),
    ),
)
HASHED = Request(path="/", service="hashed", host="hashed", times=5)
"""To be sent with the header x-user."""
