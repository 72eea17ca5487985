"""A cluster for ``meshd bench --kube``: an API server, and behind it what starts every pod at once. Its nodes
do not run containers: a test says what a Job's pod writes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kube_api.server import Object, Server
from tests.kube_api.store import Event
from tests.kube_api.thread import ApiThread, api_thread

NODES = {"client": "node-a", "server": "node-b"}
_AT_FIRST = ("default",)


class BenchCluster:
    """What there is, and was."""

    def __init__(self, api: ApiThread, server: Server, output: Callable[[Object], str]) -> None:
        """``output``: what the container of a Job's pod writes until it ends."""
        self.api = api
        self.server = server
        self.injected_label: tuple[str, str] = ("istio-injection", "enabled")
        server.log = output
        server.after = self._react

    @property
    def url(self) -> str:
        """Of the API server."""
        return self.server.url

    @property
    def objects(self) -> list[tuple[str, str, str]]:
        """What is there that was not from the beginning."""
        return [key for key in list(self.server.objects) if key[0] != "namespaces" or key[2] not in _AT_FIRST]

    @property
    def created(self) -> list[Object]:
        """All Jobs there ever were, in order."""
        return [each.object for each in list(self.server.store.history) if each[1:3] == ("ADDED", "jobs")]

    def namespaces(self) -> set[str]:
        """Their names."""
        return {name for plural, _, name in self.objects if plural == "namespaces"}

    def namespace(self, name: str, **labels: str) -> None:
        """Create one, as somebody else."""
        self.api.do(self.server.put("namespaces", name, "", labels))

    def _react(self, event: Event) -> None:
        if event.plural not in ("deployments", "jobs"):
            return
        store, meta = self.server.store, event.object["metadata"]
        key = ("pods", meta["namespace"], f"{meta['name']}-x")
        if event.kind == "ADDED":
            store.write("pods", self._pod(event.plural, event.object))
        elif event.kind == "DELETED" and key in store.objects:
            store.remove(key)

    def _pod(self, plural: str, owner: Object) -> Object:
        namespace = owner["metadata"]["namespace"]
        template = copy.deepcopy(owner["spec"]["template"])
        labels, spec = template["metadata"]["labels"], template["spec"]
        if plural == "jobs":
            labels["job-name"] = owner["metadata"]["name"]
        key, value = self.injected_label
        of = self.server.objects["namespaces", "", namespace]["metadata"].get("labels", {})
        if of.get(key) == value:
            spec["containers"].append({"name": "istio-proxy", "image": "proxy"})
        spec["nodeName"] = NODES.get(labels.get("meshd-bench/place", ""), "node-a")
        # An injected sidecar goes on when the load has ended.
        done = [{"name": "load", "state": {"terminated": {"exitCode": 0}}}] if plural == "jobs" else []
        conditions = [{"type": "Ready", "status": "True" if plural == "deployments" else "False"}]
        return {
            "metadata": {"name": f"{owner['metadata']['name']}-x", "namespace": namespace, "labels": labels},
            "spec": spec,
            "status": {"phase": "Running", "conditions": conditions, "containerStatuses": done},
        }


@contextmanager
def bench_cluster(output: Callable[[Object], str]) -> Iterator[BenchCluster]:
    """Serve it on loopback."""
    server = Server(_AT_FIRST)
    with api_thread(server) as api:
        yield BenchCluster(api, server, output)
