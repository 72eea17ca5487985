"""The official suite's cases of what a Service's port speaks (GEP-1911), with a pod that speaks nothing else.

From kubernetes-sigs/gateway-api, release v1.6.1, conformance/tests/httproute-backend-protocol-*.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.conformance.cases import NAMESPACE

H2C, WEBSOCKET = "HTTPRouteBackendProtocolH2C", "HTTPRouteBackendProtocolWebSocket"
POD = "infra-backend"
_PORTS = {
    H2C: {"name": "second-port", "port": 8081, "targetPort": 3001, "appProtocol": "kubernetes.io/h2c"},
    WEBSOCKET: {"name": "third-port", "port": 8082, "targetPort": 3000, "appProtocol": "kubernetes.io/ws"},
}
SERVICES = {f"{NAMESPACE}/{case.lower()}:80" for case in _PORTS}
Object = dict[str, Any]


def _object(kind: str, name: str, spec: Object, version: str = "v1", **metadata: object) -> Object:
    metadata |= {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _container(name: str, port: int, *command: str) -> Object:
    return {
        "name": name,
        "command": list(command),
        "env": [{"name": "POD", "value": POD}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    }


def manifests() -> list[Object]:
    """The pod, its Service, and a Service with a route for each case: their clients call port 80."""
    containers = [
        _container("h2c", 3001, "node", "h2c.mjs"),
        _container("websocket", 3000, sys.executable, "websocket_echo.py"),
    ]
    found = [
        _object("Pod", POD, {"nodeName": "node2", "containers": containers}, labels={"app": POD}),
        _object("Service", POD, {"selector": {"app": POD}, "ports": list(_PORTS.values())}),
    ]
    for case, port in _PORTS.items():
        name = case.lower()
        front = {"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}
        rule = {"backendRefs": [{"name": POD, "port": port["port"]}]}
        parent = {"group": "", "kind": "Service", "name": name, "port": 80}
        found += [
            _object("Service", name, {"selector": {"app": POD}, "ports": [front]}),
            _object(
                "HTTPRoute",
                name,
                {"parentRefs": [parent], "rules": [rule]},
                "gateway.networking.k8s.io/v1",
            ),
        ]
    return found
