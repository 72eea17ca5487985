"""What no test of the suite asks for, in its cluster: policies of our own kinds, filters of backendRefs."""

from __future__ import annotations

from tests.conformance.cases import NAMESPACE, Case, Request, policy, service

_ECHO = {"app": "echo"}


def _target(name: str) -> dict[str, str]:
    return {"group": "", "kind": "Service", "name": name}


def _backend(name: str) -> dict[str, object]:
    return {"name": name, "port": 80}


_FAULT = {"abort": {"status": 503}, "headers": [{"name": "x-fail", "value": "yes"}]}
_HASHED = {"type": "RingHash", "hashOn": [{"type": "Header", "name": "x-user"}]}
_SPECS = (
    ("RoutePolicy", "answered", {"directResponse": {"status": 418, "body": "tea"}}),
    ("RoutePolicy", "limited", {"rateLimit": {"all": {"requests": 2, "interval": "1h"}}}),
    ("RoutePolicy", "failing", {"fault": _FAULT}),
    ("UpstreamPolicy", "hashed", {"loadBalancing": _HASHED}),
)


_FILTERED, _STICKY = "backend-filters", "sticky"
_RULES: tuple[dict[str, object], ...] = (
    {
        "matches": [{"path": {"type": "PathPrefix", "value": "/mirrored"}}],
        "backendRefs": [
            {
                **_backend("echo-v1"),
                "filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": _backend("echo-v3")}}],
            },
            _backend("echo-v2"),
        ],
    },
)


def manifests() -> list[dict[str, object]]:
    """The Services, each with the policy or the route of its name."""
    services = [service(NAMESPACE, name, _ECHO, {}) for name in (_FILTERED, *(name for _, name, _ in _SPECS))]
    services.append(service(NAMESPACE, _STICKY, _ECHO, {"sessionAffinity": "ClientIP"}))
    policies: list[dict[str, object]] = [
        policy(kind, name, _target(name), spec) for kind, name, spec in _SPECS
    ]
    route: dict[str, object] = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": _FILTERED, "namespace": NAMESPACE},
        "spec": {"parentRefs": [_target(_FILTERED)], "rules": _RULES},
    }
    return [*services, *policies, route]


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
    _case(
        _FILTERED,
        Request(
            path="/mirrored?UNIQUE",
            service=_FILTERED,
            host=_FILTERED,
            times=400,
            to=("echo-v1", "echo-v2"),
            mirrored={"echo-v3": 0.5},
        ),
    ),
)
AFFINE = Request(path="/", service=_STICKY, host=_STICKY, times=20)
"""To a Service with sessionAffinity ClientIP."""
HASHED = Request(path="/", service="hashed", host="hashed", times=5)
"""To be sent with the header x-user."""
