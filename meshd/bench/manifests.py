"""The pods, services and routes of a benchmark's labs, and the server's config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from meshd.bench.plan import Load
from meshd.bench.results import Placement

PORT = 8080
"""Of the services and the server alike: without a mesh the client may then call the pod by the same URL."""
CLIENT = "client"
SERVERS: dict[Placement, str] = {"same-node": "near", "two-nodes": "far"}
HEADERS = {"x-bench": "yes"}
"""Of every request, with and without a route: the route knows its requests by it."""
_FOLDER = Path(__file__).parent
_LITERAL = 4096
"""Longest body, in bytes, that is in nginx's config; longer ones are files that it sends with sendfile."""

_NGINX = """\
daemon off;
worker_processes 1;
user root;
worker_rlimit_nofile 16384;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  sendfile on;
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server {{
    listen {port} backlog=4096;
    listen [::]:{port} backlog=4096;
{locations}
  }}
}}
"""


def body(size: int) -> bytes:
    """The answer of so many bytes."""
    pattern = b"0123456789abcdef"
    return (pattern * (size // len(pattern) + 1))[:size]


def path(size: int) -> str:
    """Where it is found."""
    return f"/bytes/{size}"


def url(load: Load) -> str:
    """What the client calls."""
    return f"http://{host(load)}:{PORT}{path(load.body_bytes)}"


def host(load: Load) -> str:
    """The service that the client calls."""
    return SERVERS[load.placement] + ("-routed" if load.route else "")


def nginx_config(sizes: Iterable[int]) -> str:
    """One worker, no log."""
    locations = "\n".join(
        f'    location = {path(size)} {{ return 200 "{body(size).decode()}"; }}'
        if size <= _LITERAL
        else f"    location = {path(size)} {{ root .; }}"
        for size in sizes
    )
    return _NGINX.format(port=PORT, locations=locations)


def files(sizes: Iterable[int]) -> list[int]:
    """The bodies that are files beside the config, and not in it."""
    return [size for size in sizes if size > _LITERAL]


def write(folder: Path, sizes: Iterable[int], nodes: int, headless: bool) -> Path:
    """All files of one lab; returns the manifest. Raises OSError.

    ``headless``: services have no address of their own, their names lead to the pods. So nothing at all is
    between client and server, not even the address translation that kube-proxy would do.
    """
    sizes = tuple(sizes)
    for size in files(sizes):
        file = folder / path(size).lstrip("/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(body(size))
    (folder / "nginx.conf").write_text(nginx_config(sizes))
    manifest = folder / "pods.yaml"
    manifest.write_text(yaml.safe_dump_all(_objects(nodes, headless), sort_keys=False))
    return manifest


def _objects(nodes: int, headless: bool) -> list[dict[str, Any]]:
    server = (_FOLDER / "server.yaml").read_text()
    texts = [(_FOLDER / "client.yaml").read_text(), server]
    if nodes > 1:
        texts.append(server.replace("near", "far").replace("node1", "node2"))
    found = [one for text in texts for one in yaml.safe_load_all(text)]
    if headless:
        for one in found:
            if one["kind"] == "Service":
                one["spec"]["clusterIP"] = "None"
    return found


def services() -> list[dict[str, Any]]:
    """The objects of one node without its pods."""
    return [one for one in _objects(1, headless=False) if one["kind"] != "Pod"]


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
