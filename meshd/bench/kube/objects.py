"""The Kubernetes objects of a benchmark on a cluster. Pure.

A namespace for each scenario, which differ in how they are enrolled, and one for two pods that only hold
places: "client" is the node of all clients and of the near servers, "server" that of the far ones. So every
scenario is measured on the same nodes, whichever the scheduler chose.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meshd.bench import manifests, nginx, wanted
from meshd.bench.kube.options import PREFIX, Options
from meshd.bench.kube.task import Task, argument
from meshd.bench.plan import Plan, Run
from meshd.bench.results import Placement, Protocol, Scenario
from meshd.gateway.options import FAST_PATH
from meshd.workloads.membership import DISABLED, ENABLED, MESH_KEY

Object = dict[str, Any]

MANAGED = {"app.kubernetes.io/managed-by": "meshd-bench"}
"""Of every namespace of ours: `kubectl delete namespace -l` finds them by it."""
CONTAINER = "load"
PLACE = "meshd-bench/place"
"""The label of the pods that hold places."""
_PLACES: Mapping[Placement, str] = {"same-node": "client", "two-nodes": "server"}
ROUTES: Mapping[str, frozenset[Protocol]] = {
    "HTTPRoute": frozenset({"http1", "http1-close", "h2"}),
    "GRPCRoute": frozenset({"grpc", "grpc-stream"}),
}
"""Which kind routes which protocols."""
_MAX_JOB_SECONDS = 180
_PORTS = {"name": "net.ipv4.ip_local_port_range", "value": "1024 65535"}
"""A connection for each request takes many; it is one of the sysctls that Kubernetes holds for safe."""


def namespace(scenario: Scenario) -> str:
    """A scenario's."""
    return f"{PREFIX}-{scenario}"


def places(plan: Plan, options: Options) -> list[Object]:
    """The namespace and the Deployments that hold the nodes."""
    found = [_namespace(PREFIX, {MESH_KEY: DISABLED})]
    for name in ("client", "server")[: plan.nodes]:
        pod = {
            "affinity": {} if name == "client" else {"podAntiAffinity": _beside("client")},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "place", "image": options.image, "command": ["sleep", "infinity"]}],
        }
        found.append(_deployment(PREFIX, name, {PLACE: name}, pod))
    return found


def scenario(of: Scenario, plan: Plan, options: Options) -> list[Object]:
    """A scenario's namespace, its server's config, servers and services; no route."""
    name = namespace(of)
    found = [_namespace(name, _enrolment(of, options)), _config(name, plan.bodies)]
    for placement in _placements(plan):
        server = wanted.SERVERS[placement]
        found.append(_server(of, server, _PLACES[placement], plan, options))
        found += _services(of, server, "Service")
    return found


def routes(of: Scenario, plan: Plan, kind: str) -> list[Object]:
    """A scenario's routes of one kind; none if no load has such a route."""
    if not any(load.route and load.protocol in ROUTES[kind] for load in plan.loads):
        return []
    return [one for placement in _placements(plan) for one in _services(of, wanted.SERVERS[placement], kind)]


def job(run: Run, number: int, seconds: int, options: Options) -> Object:
    """One run. ``number`` makes its name its own."""
    task = Task(run.load, run.round, seconds, "by meshd" if _is_meshd(run.scenario) else "by nobody else")
    labels = {"app": "load"}
    pod = {
        "restartPolicy": "Never",
        "affinity": {"podAffinity": _beside("client")},
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"sysctls": [_PORTS]},
        "containers": [
            {
                "name": CONTAINER,
                "image": options.image,
                "command": ["python3", "-m", "meshd.bench.kube.inside"],
                "args": [argument(task)],
            }
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"load-{number}", "namespace": namespace(run.scenario), "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": _MAX_JOB_SECONDS + seconds,
            "template": {
                "metadata": {"labels": labels, "annotations": _annotations(run.scenario)},
                "spec": pod,
            },
        },
    }


def _placements(plan: Plan) -> list[Placement]:
    used = {load.placement for load in plan.loads}
    return [placement for placement in _PLACES if placement in used]


def _is_meshd(of: Scenario) -> bool:
    return of in ("meshd-slow", "meshd-fast")


def _enrolment(of: Scenario, options: Options) -> dict[str, str]:
    if of == "sidecar":
        return {MESH_KEY: DISABLED, **dict([options.sidecar_label])}
    return {MESH_KEY: ENABLED if _is_meshd(of) else "disabled"}


def _annotations(of: Scenario) -> dict[str, str]:
    """An injected sidecar is to be up before the container that needs it (Istio, ProxyConfig)."""
    if of != "sidecar":
        return {}
    return {"proxy.istio.io/config": json.dumps({"holdApplicationUntilProxyStarts": True})}


def _namespace(name: str, labels: Mapping[str, str]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**MANAGED, **labels}},
    }


def _beside(place: str) -> Object:
    """The terms of an affinity (or, with Anti, its contrary) to the node of a place."""
    term = {
        "labelSelector": {"matchLabels": {PLACE: place}},
        "namespaces": [PREFIX],
        "topologyKey": "kubernetes.io/hostname",
    }
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def _config(name: str, sizes: Iterable[int]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "server", "namespace": name},
        "data": {"nginx.conf": nginx.config(sizes)},
    }


def _server(of: Scenario, name: str, place: str, plan: Plan, options: Options) -> Object:
    content = {"name": "content", "mountPath": "/srv"}
    pod = {
        "affinity": {"podAffinity": _beside(place)},
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"sysctls": [_PORTS]},
        "initContainers": [
            {
                "name": "content",
                "image": options.server_image,
                "command": ["sh", "-ec", _WRITE_FILES, "sh", *map(str, plan.bodies)],
                "volumeMounts": [content],
            }
        ],
        "containers": [
            {
                "name": "server",
                "image": options.server_image,
                "command": [
                    "nginx",
                    "-p",
                    "/srv",
                    "-c",
                    "/etc/bench/nginx.conf",
                    "-g",
                    "pid /tmp/nginx.pid;",
                ],
                "ports": [{"name": "http", "containerPort": wanted.PORTS["http1"]}],
                "readinessProbe": {"tcpSocket": {"port": wanted.PORTS["http1"]}, "periodSeconds": 1},
                "volumeMounts": [content, {"name": "config", "mountPath": "/etc/bench"}],
            },
            *([_echo(options)] if plan.has_streams else []),
        ],
        "volumes": [{"name": "content", "emptyDir": {}}, {"name": "config", "configMap": {"name": "server"}}],
    }
    found = _deployment(namespace(of), name, {"app": name}, pod)
    found["spec"]["template"]["metadata"]["annotations"] = _annotations(of)
    return found


_WRITE_FILES = f"""\
octal() {{ printf '\\%03o' "$@"; }}
mkdir -p /srv/bytes /srv/{nginx.CALLS}/bytes
for n in "$@"; do
  yes 0123456789abcdef | tr -d "\\n" | head -c "$n" >"/srv/bytes/$n"
  printf "$(octal 0 $((n >> 24)) $((n >> 16 & 255)) $((n >> 8 & 255)) $((n & 255)))" \\
    | cat - "/srv/bytes/$n" >"/srv/{nginx.CALLS}/bytes/$n"
done
"""
"""Those of nginx.files, of the sizes that are its arguments. yes(1) ends by SIGPIPE when head has enough."""


def _echo(options: Options) -> Object:
    """The streams' server."""
    port = wanted.PORTS["grpc-stream"]
    return {
        "name": "echo",
        "image": options.image,
        "command": ["python3", "-m", "meshd.bench.echo_server", str(port)],
        "ports": [{"name": "grpc-stream", "containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    }


def _deployment(where: str, name: str, labels: Mapping[str, str], pod: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": where},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def _services(of: Scenario, server: str, kind: str) -> list[Object]:
    """The lab's own objects, in the scenario's namespace. "near" is written in them for any server."""
    near = wanted.SERVERS["same-node"]
    found: list[Object] = json.loads(json.dumps(manifests.services("meshd-slow")).replace(near, server))
    chosen = [one for one in found if one["kind"] == kind]
    for one in chosen:
        one["metadata"]["namespace"] = namespace(of)
        if kind == "Service" and _is_meshd(of):
            fast = {FAST_PATH: "on", **manifests.FAST}
            one["metadata"]["annotations"] = {FAST_PATH: "off"} if of == "meshd-slow" else fast
    return chosen
