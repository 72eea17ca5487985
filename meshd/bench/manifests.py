"""The pods, services and routes of a benchmark's labs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from meshd.bench import nginx
from meshd.bench.results import Scenario
from meshd.bench.wanted import PORTS
from meshd.gateway.options import HTTP2_FAST_PATH

CLIENT = "client"
FAST = {HTTP2_FAST_PATH: "on"}
"""Of the services of meshd-fast: HTTP/2 is spliced where there is nothing to do for a request."""
_FOLDER = Path(__file__).parent
_ECHO = {
    "name": "echo",
    "command": [sys.executable, "-m", "meshd.bench.echo_server", str(PORTS["grpc-stream"])],
    "ports": [{"name": "grpc-stream", "containerPort": PORTS["grpc-stream"]}],
    "readinessProbe": {"tcpSocket": {"port": PORTS["grpc-stream"]}, "periodSeconds": 60},
}
"""The server of the streams, beside nginx where there are any."""


def write(folder: Path, sizes: Iterable[int], nodes: int, scenario: Scenario, streams: bool = False) -> Path:
    """All files of one scenario's lab; returns the manifest. Raises OSError.

    ``streams``: there is a server for them, too.
    """
    sizes = tuple(sizes)
    for name, content in nginx.files(sizes).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / "nginx.conf").write_text(nginx.config(sizes))
    manifest = folder / "pods.yaml"
    manifest.write_text(yaml.safe_dump_all(_objects(nodes, scenario, streams), sort_keys=False))
    return manifest


def client() -> list[dict[str, Any]]:
    """The pod that asks. Raises OSError."""
    return list(yaml.safe_load_all((_FOLDER / "client.yaml").read_text()))


def _objects(nodes: int, scenario: Scenario, streams: bool) -> list[dict[str, Any]]:
    """Direct's services are headless: they have no address of their own, their names lead to the pods. So
    nothing at all is between client and server, not even the address translation that kube-proxy would do."""
    server = (_FOLDER / "server.yaml").read_text()
    texts = [server]
    if nodes > 1:
        texts.append(server.replace("near", "far").replace("node1", "node2"))
    found = [*client(), *(one for text in texts for one in yaml.safe_load_all(text))]
    for one in found:
        if one["kind"] == "Service" and scenario == "direct":
            one["spec"]["clusterIP"] = "None"
        if one["kind"] == "Service" and scenario == "meshd-fast":
            one["metadata"]["annotations"] = FAST
        if one["kind"] == "Pod" and streams and one["metadata"]["name"] != CLIENT:
            one["spec"]["containers"].append(_ECHO)
    return found


def services(scenario: Scenario) -> list[dict[str, Any]]:
    """The objects of one node without its pods."""
    return [one for one in _objects(1, scenario, streams=False) if one["kind"] != "Pod"]


def idle_pods(count: int) -> list[dict[str, Any]]:
    """A Deployment of so many pods that do nothing: what does the mesh hold for each?"""
    labels = {"app": "idle"}
    container = {"name": "idle", "command": ["sleep", "infinity"]}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "idle"},
            "spec": {
                "replicas": count,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }
    ]
