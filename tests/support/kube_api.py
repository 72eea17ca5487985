"""A Kubernetes API server for kubectl, as far as ``meshd bench --kube`` needs one, with a cluster behind it
that starts every pod at once. Its nodes do not run containers: a test says what a Job's pod writes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Collection, namespace, name."""

_GROUPS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "namespaces": ("Namespace", False),
        "pods": ("Pod", True),
        "services": ("Service", True),
        "configmaps": ("ConfigMap", True),
    },
    "apps/v1": {"deployments": ("Deployment", True)},
    "batch/v1": {"jobs": ("Job", True)},
    "gateway.networking.k8s.io/v1": {"httproutes": ("HTTPRoute", True)},
}
_PATH = re.compile(
    r"(?:/api|/apis/(?P<group>[^/]+))/v1(?:/namespaces/(?P<namespace>[^/]+))?/(?P<collection>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?P<log>/log)?"
)
NODES = {"client": "node-a", "server": "node-b"}


class Cluster:
    """What the API server holds."""

    def __init__(self, output: Callable[[Object], str]) -> None:
        """``output``: what the container of a Job's pod writes until it ends."""
        self.objects: dict[Key, Object] = {}
        self.created: list[Object] = []
        """All there ever were, in order."""
        self.kinds = {name for kinds in _GROUPS.values() for name in kinds}
        """The collections that there are; a test may take one away."""
        self.injected_label: tuple[str, str] = ("istio-injection", "enabled")
        self._output = output
        self._lock = threading.Lock()

    def namespaces(self) -> set[str]:
        return {name for collection, _, name in self.objects if collection == "namespaces"}

    def create(self, collection: str, namespace: str, given: Object) -> tuple[HTTPStatus, Object]:
        name = given["metadata"]["name"]
        key = (collection, namespace, name)
        with self._lock:
            if key in self.objects:
                return HTTPStatus.CONFLICT, _status(
                    409, "AlreadyExists", f"{collection} {name!r} already exists"
                )
            if namespace and ("namespaces", "", namespace) not in self.objects:
                return HTTPStatus.NOT_FOUND, _status(404, "NotFound", f"namespaces {namespace!r} not found")
            self.objects[key] = given
            self.created.append(given)
            if collection in ("deployments", "jobs"):
                self._start(collection, namespace, given)
        return HTTPStatus.CREATED, given

    def _start(self, collection: str, namespace: str, owner: Object) -> None:
        template = json.loads(json.dumps(owner["spec"]["template"]))
        name = f"{owner['metadata']['name']}-x"
        labels, spec = template["metadata"]["labels"], template["spec"]
        if collection == "jobs":
            labels["job-name"] = owner["metadata"]["name"]
        key, value = self.injected_label
        if self.objects["namespaces", "", namespace]["metadata"].get("labels", {}).get(key) == value:
            spec["containers"].append({"name": "istio-proxy", "image": "proxy"})
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
        }
        spec["nodeName"] = NODES.get(labels.get("meshd-bench/place", ""), "node-a")
        # An injected sidecar goes on when the load has ended.
        done = [{"name": "load", "state": {"terminated": {"exitCode": 0}}}] if collection == "jobs" else []
        conditions = [{"type": "Ready", "status": "True" if collection == "deployments" else "False"}]
        pod["status"] = {"phase": "Running", "conditions": conditions, "containerStatuses": done}
        self.objects["pods", namespace, name] = pod

    def delete(self, key: Key) -> bool:
        with self._lock:
            found = self.objects.pop(key, None) is not None
            collection, namespace, name = key
            if collection == "namespaces":
                for other in [one for one in self.objects if one[1] == name]:
                    del self.objects[other]
            if collection in ("jobs", "deployments"):
                self.objects.pop(("pods", namespace, f"{name}-x"), None)
            return found

    def listed(self, collection: str, namespace: str, query: dict[str, list[str]]) -> list[Object]:
        labels = dict(part.split("=", 1) for part in query.get("labelSelector", [""])[0].split(",") if part)
        field = query.get("fieldSelector", [""])[0].removeprefix("metadata.name=")
        with self._lock:
            return [
                one
                for (kind, where, name), one in self.objects.items()
                if kind == collection
                and where == namespace
                and field in ("", name)
                and labels.items() <= one["metadata"].get("labels", {}).items()
            ]

    def log(self, key: Key) -> str | None:
        pod = self.objects.get(key)
        return None if pod is None else self._output(pod)


def _status(code: int, reason: str, message: str) -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def _handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = self._asked()
            match = _PATH.fullmatch(path)
            if (found := _discovery(path, cluster.kinds)) is not None:
                self._answer(HTTPStatus.OK, found)
            elif match is None or match["collection"] not in cluster.kinds:
                self._answer(HTTPStatus.NOT_FOUND, _status(404, "NotFound", f"there is no {path}"))
            elif match["log"]:
                self._log(cluster.log(_key(match)))
            elif match["name"]:
                one = cluster.objects.get(_key(match))
                self._answer(*((HTTPStatus.OK, one) if one else _missing(match)))
            elif "watch" in query:
                self._text("")  # nothing more will happen: the watch ends
            else:
                items = cluster.listed(match["collection"], match["namespace"] or "", query)
                listed = {
                    "kind": "List",
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": "1"},
                    "items": items,
                }
                self._answer(HTTPStatus.OK, listed)

        def do_POST(self) -> None:
            path, _ = self._asked()
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            match = _PATH.fullmatch(path)
            assert match is not None, path
            self._answer(*cluster.create(match["collection"], match["namespace"] or "", given))

        def do_DELETE(self) -> None:
            path, _ = self._asked()
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            match = _PATH.fullmatch(path)
            assert match is not None, path
            if cluster.delete(_key(match)):
                self._answer(HTTPStatus.OK, {"kind": "Status", "apiVersion": "v1", "status": "Success"})
            else:
                self._answer(*_missing(match))

        def _asked(self) -> tuple[str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            return parts.path, parse_qs(parts.query)

        def _log(self, text: str | None) -> None:
            self._text(text or "")

        def _answer(self, status: HTTPStatus, found: Object) -> None:
            self._text(json.dumps(found), status)

        def _text(self, text: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler


def _key(match: re.Match[str]) -> Key:
    return match["collection"], match["namespace"] or "", match["name"]


def _missing(match: re.Match[str]) -> tuple[HTTPStatus, Object]:
    return HTTPStatus.NOT_FOUND, _status(
        404, "NotFound", f"{match['collection']} {match['name']!r} not found"
    )


def _discovery(path: str, kinds: set[str]) -> Object | None:
    if path == "/version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [version.partition("/")[0] for version in _GROUPS if "/" in version]
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/v1", "version": "v1"}],
                    "preferredVersion": {"groupVersion": f"{group}/v1", "version": "v1"},
                }
                for group in groups
            ],
        }
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if version not in _GROUPS:
        return None
    verbs = ["create", "delete", "get", "list", "watch"]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {
                "name": name,
                "singularName": kind.lower(),
                "kind": kind,
                "namespaced": namespaced,
                "verbs": verbs,
            }
            for name, (kind, namespaced) in _GROUPS[version].items()
            if name in kinds
        ],
    }


@contextmanager
def serving(cluster: Cluster, folder: Path) -> Iterator[Path]:
    """Serve it on loopback; gives the kubeconfig that leads there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(cluster))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
