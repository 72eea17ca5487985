"""The official suite's GRPCRoute cases as data, and Services of our own for what else is tested of gRPC.

From kubernetes-sigs/gateway-api, release v1.6.1, conformance/tests; the two RequestHeaderModifier cases came
after it, and are of the main branch at 4564255 (2026-08-21). Each case has a Service of its own in place of
the suite's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tests.conformance.cases import NAMESPACE

ECHO = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"
PORT = 7070
_GATEWAY = "gateway.networking.k8s.io/v1"
_ANY = ("grpc-v1", "grpc-v2", "grpc-v3")
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and what it must lead to."""

    method: str = "Echo"
    metadata: dict[str, str] = field(default_factory=dict)
    code: str = "OK"
    to: tuple[str, ...] = _ANY
    seen: dict[str, str] = field(default_factory=dict)
    """Metadata as the server gets it; several values are joined by commas."""
    absent: tuple[str, ...] = ()
    split: dict[str, float] = field(default_factory=dict)
    """The pods' shares."""
    times: int = 3


class Case(NamedTuple):
    """One of the suite's tests."""

    name: str
    source: str
    rules: tuple[Object, ...]
    calls: tuple[Call, ...]

    @property
    def slug(self) -> str:
        """Its name as a Service's."""
        return self.name.lower()


def _to(*pods: str, **fields: object) -> Object:
    return {"backendRefs": [{"name": each, "port": PORT} for each in pods], **fields}


def _method(name: str, service: str = ECHO) -> list[Object]:
    return [{"method": {"service": service, "method": name}}]


def _headers(**fields: str) -> Object:
    return {"headers": [{"name": name.replace("_", "-"), "value": value} for name, value in fields.items()]}


def _edit(**fields: object) -> list[Object]:
    return [{"type": "RequestHeaderModifier", "requestHeaderModifier": fields}]


def _pairs(*pairs: str) -> list[Object]:
    return [{"name": name, "value": value} for name, _, value in (each.partition("=") for each in pairs)]


def _weighted(**weights: int) -> Object:
    refs = [{"name": f"grpc-{name}", "port": PORT, "weight": weight} for name, weight in weights.items()]
    return {"backendRefs": refs}


_V1, _V2 = ("grpc-v1",), ("grpc-v2",)
_SPLIT = (Call(split={"grpc-v1": 0.7, "grpc-v2": 0.3}, to=_ANY[:2], times=500),)
_MULTI = _edit(
    set=_pairs("X-Header-Set-1=header-set-1", "X-Header-Set-2=header-set-2"),
    add=_pairs("X-Header-Add-1=header-add-1", "X-Header-Add-2=header-add-2"),
    remove=["X-Header-Remove-1", "X-Header-Remove-2"],
)
_EDITED = Call(
    metadata={
        "x-header-set-2": "set-header-2",
        "x-header-add-2": "add-header-2",
        "x-header-remove-2": "should-be-removed-2",
        "some-other-header": "another-header-val",
    },
    to=_V2,
    seen={
        "x-header-set-1": "header-set-1",
        "x-header-set-2": "header-set-2",
        "x-header-add-1": "header-add-1",
        "x-header-add-2": "add-header-2,header-add-2",
        "some-other-header": "another-header-val",
    },
    absent=("x-header-remove-1", "x-header-remove-2"),
)
CASES = (
    Case(
        "GRPCExactMethodMatching",
        "grpcroute-exact-method-matching",
        (
            _to("grpc-v1", matches=_method("Echo")),
            _to("grpc-v2", matches=_method("EchoTwo")),
        ),
        (Call("Echo", to=_V1), Call("EchoTwo", to=_V2), Call("EchoThree", code="UNIMPLEMENTED")),
    ),
    Case(
        "GRPCRouteNamedRule",
        "grpcroute-named-rule",
        (
            _to("grpc-v1", matches=_method("Echo"), name="named-rule"),
            _to("grpc-v2", matches=_method("EchoTwo")),
        ),
        (Call("Echo", to=_V1), Call("EchoTwo", to=_V2)),
    ),
    Case(
        "GRPCRouteHeaderMatching",
        "grpcroute-header-matching",
        (
            _to("grpc-v1", matches=[_headers(version="one")]),
            _to("grpc-v2", matches=[_headers(version="two")]),
            _to("grpc-v1", matches=[_headers(version="two", color="orange")]),
            _to("grpc-v1", matches=[_headers(color="blue"), _headers(color="green")]),
            _to("grpc-v2", matches=[_headers(color="red"), _headers(color="yellow")]),
        ),
        (
            Call(metadata={"version": "one"}, to=_V1),
            Call(metadata={"version": "two"}, to=_V2),
            Call(metadata={"version": "two", "color": "orange"}, to=_V1),
            Call(metadata={"version": "two", "color": "blue"}, to=_V2),
            Call(metadata={"color": "orange"}, code="UNIMPLEMENTED"),
            Call(metadata={"some-other-header": "one"}, code="UNIMPLEMENTED"),
            Call(metadata={"color": "blue"}, to=_V1),
            Call(metadata={"color": "green"}, to=_V1),
            Call(metadata={"color": "red"}, to=_V2),
            Call(metadata={"color": "yellow"}, to=_V2),
            Call(metadata={"color": "purple"}, code="UNIMPLEMENTED"),
        ),
    ),
    Case("GRPCRouteWeight", "grpcroute-weight", (_weighted(v1=70, v2=30, v3=0),), _SPLIT),
    Case("MeshGRPCRouteWeight", "mesh/grpcroute-weight", (_weighted(v1=70, v2=30, v3=0),), _SPLIT),
    Case(
        "GRPCRouteRequestHeaderModifier",
        "grpcroute-request-header-modifier",
        (
            _to(
                "grpc-v1",
                matches=_method("Echo"),
                filters=_edit(set=_pairs("X-Header-Set=set-overwrites-values")),
            ),
            _to("grpc-v2", matches=_method("EchoTwo"), filters=_MULTI),
        ),
        (
            Call(
                metadata={"some-other-header": "a"},
                to=_V1,
                seen={"some-other-header": "a", "x-header-set": "set-overwrites-values"},
            ),
            Call(metadata={"x-header-set": "this"}, to=_V1, seen={"x-header-set": "set-overwrites-values"}),
            replace(_EDITED, method="EchoTwo"),
        ),
    ),
    Case(
        "MeshGRPCRouteRequestHeaderModifier",
        "mesh/grpcroute-request-header-modifier",
        (
            _to(
                "grpc-v1",
                matches=[_headers(x_test_case="set")],
                filters=_edit(set=_pairs("x-header-set=set-overwrites-values")),
            ),
            _to(
                "grpc-v1",
                matches=[_headers(x_test_case="add")],
                filters=_edit(add=_pairs("x-header-add=add-appends-values")),
            ),
            _to(
                "grpc-v1",
                matches=[_headers(x_test_case="remove")],
                filters=_edit(remove=["x-header-remove"]),
            ),
            _to("grpc-v2", matches=[_headers(x_test_case="multi")], filters=_MULTI),
        ),
        (
            Call(
                metadata={"x-test-case": "set", "x-header-set": "this-value-should-be-overwritten"},
                to=_V1,
                seen={"x-test-case": "set", "x-header-set": "set-overwrites-values"},
            ),
            Call(
                metadata={"x-test-case": "add", "x-header-add": "this-value-should-be-appended"},
                to=_V1,
                seen={"x-header-add": "this-value-should-be-appended,add-appends-values"},
            ),
            Call(
                metadata={"x-test-case": "remove", "x-header-remove": "this-should-be-removed"},
                to=_V1,
                absent=("x-header-remove",),
            ),
            replace(_EDITED, metadata={**_EDITED.metadata, "x-test-case": "multi"}),
        ),
    ),
)
OWN = (
    Case(
        "Methods",
        "",
        (
            _to("grpc-v1", matches=[{"method": {"method": "EchoTwo"}}]),
            _to(
                "grpc-v2",
                matches=[
                    {"method": {"type": "RegularExpression", "service": ".*GrpcEcho", "method": "E.*o"}}
                ],
            ),
            _to("grpc-v3", matches=[{"method": {"service": ECHO}}]),
        ),
        (Call("Echo", to=("grpc-v3",)), Call("EchoTwo", to=("grpc-v3",)), Call("EchoThree", to=("grpc-v3",))),
    ),
    Case(
        "PartlyInvalid",
        "",
        (
            {
                "backendRefs": [
                    {"name": "grpc-v1", "port": PORT, "weight": 0},
                    {"name": "nowhere", "port": PORT},
                ]
            },
        ),
        (Call(code="UNAVAILABLE"),),
    ),
    Case("Everything", "", (_to("grpc-all"),), (Call(),)),
)
"""Of what the suite leaves to the implementation, and what other tests call."""


def _pod(version: str, node: int) -> Object:
    name = f"grpc-{version}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "grpc-echo", "grpc": version}},
        "spec": {
            "nodeName": f"node{node}",
            "containers": [
                {
                    "name": "echo",
                    "command": [sys.executable, "grpc_echo.py"],
                    "env": [{"name": "POD", "value": name}],
                    "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
                }
            ],
        },
    }


def service(name: str, selector: dict[str, str]) -> Object:
    """A Service whose only port is gRPC's."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": selector, "ports": [{"name": "grpc", "port": PORT, "appProtocol": "grpc"}]},
    }


def route(name: str, rules: Iterable[Object]) -> Object:
    """A GRPCRoute for the Service of its name."""
    return {
        "apiVersion": _GATEWAY,
        "kind": "GRPCRoute",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": name, "port": PORT}],
            "rules": list(rules),
        },
    }


_POLICIES = (
    {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": "RoutePolicy",
        "metadata": {"name": "grpc-policies", "namespace": NAMESPACE},
        "spec": {
            "targetRefs": [
                {"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "grpc-policies"}
            ],
            "timeouts": {"grpcDeadline": "1s"},
            "retry": {"attempts": 2, "grpcStatuses": ["Unavailable"]},
        },
    },
)
_ROUTES = {
    **{case.slug: case.rules for case in (*CASES, *OWN)},
    "grpc-errors": (
        _to("grpc-v1", matches=[{"method": {"service": "demo.Calls"}}]),
        _to("grpc-gone", matches=[{"method": {"service": ECHO}}, {"method": {"service": "demo.Streams"}}]),
    ),
    "grpc-policies": (_to("grpc-v1"),),
}
SERVICES = {f"{NAMESPACE}/{name}:{PORT}" for name in _ROUTES}


PROXYLESS = "grpc-client"
_CLIENT = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": PROXYLESS,
        "namespace": NAMESPACE,
        "annotations": {"meshd.io/mesh": "disabled", "meshd.io/grpc-xds": "enabled"},
    },
    "spec": {"nodeName": "node2", "containers": [{"name": "client", "command": ["sleep", "3600"]}]},
}


def rolling(version: str) -> list[Object]:
    """A Deployment that is replaced where its version changes, and its Service."""
    labels = {"app": "rolling"}
    (container,) = _pod("x", 1)["spec"]["containers"]
    container["command"][1] = str(Path(__file__).parent / "pods" / "grpc_echo.py")
    container["env"] = [{"name": "POD", "value": version}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "rolling", "namespace": NAMESPACE},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    return [deployment, service("rolling", labels)]


def manifests() -> list[Object]:
    """Servers, Services, routes and policies, and a client that needs no proxy."""
    found = [_pod("v1", 1), _pod("v2", 2), _pod("v3", 1), _CLIENT]
    found += [service(f"grpc-{each}", {"grpc": each}) for each in ("v1", "v2", "v3")]
    found.append(service("grpc-all", {"app": "grpc-echo"}))
    found.append(service("grpc-gone", {"app": "nobody"}))
    for name, rules in _ROUTES.items():
        found += [service(name, {"app": "grpc-echo"}), route(name, rules)]
    return [*found, *_POLICIES]
