"""Objects from a Kubernetes API server, and what became of routes and policies written back to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from meshd.control.source import Files
from meshd.control.status_writer import StatusWriter
from meshd.gateway.incremental import Change
from meshd.kube.collection import ApiObject
from meshd.kube.crds import POLICIES
from meshd.kube.parse import OWN_VERSION
from meshd.kube_api.access import Access
from meshd.kube_api.client import Client
from meshd.kube_api.following import Following, State
from meshd.kube_api.leading import Leading
from meshd.kube_api.reflection import Name
from meshd.kube_api.resource import Kept, Resource

TOLD = (
    Resource("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes"),
    Resource("GRPCRoute", "gateway.networking.k8s.io/v1", "grpcroutes"),
    Resource("TLSRoute", "gateway.networking.k8s.io/v1", "tlsroutes"),
    Resource("TCPRoute", "gateway.networking.k8s.io/v1", "tcproutes"),
    *(Resource(kind.__name__, OWN_VERSION, plural) for kind, plural in POLICIES),
)
"""Those on whose objects we write how they were taken."""
RESOURCES = (
    Resource("Namespace", "v1", "namespaces"),
    Resource("Service", "v1", "services"),
    Resource("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
    *TOLD,
    Resource("ReferenceGrant", "gateway.networking.k8s.io/v1beta1", "referencegrants"),
)
"""What is followed. A kind whose CRD is not installed has no objects."""
LEASE = "meshd-control"


class ClusterSource:
    """Follows all namespaces, or one. Every replica serves; the one that leads writes statuses."""

    def __init__(self, access: Access, identity: str, namespace: str = "", lease_namespace: str = "") -> None:
        """``identity``: this replica's, unlike any other's. ``namespace``: the one to follow; empty: all.

        ``lease_namespace``: where the election is held; empty: the access's own.
        """
        self._access = access
        self._identity = identity
        self._namespace = namespace
        self._lease_namespace = lease_namespace or access.namespace
        self._writers: dict[str, StatusWriter] = {}
        """By kind."""
        self._held: dict[str, dict[Name, Kept]] = {resource.kind: {} for resource in TOLD}
        self._objects: dict[str, tuple[Kept, ApiObject]] = {}

    async def versions(self) -> AsyncGenerator[Files, None]:
        """All objects, and again when they have changed. An API server that is away is waited for."""
        async with Client(self._access) as client:
            leading = Leading(client, self._lease_namespace, LEASE, self._identity, self._leadership_changed)
            self._writers = {
                each.kind: StatusWriter(client, each, self._held[each.kind].get, lambda: leading.leads)
                for each in TOLD
            }
            following = Following(client, _followed(self._namespace), self._namespace)
            runs = [leading.run(), *(writer.run() for writer in self._writers.values())]
            tasks = [asyncio.create_task(each) for each in runs]
            states = following.states()
            try:
                async for state in states:
                    for task in tasks:
                        if task.done():
                            task.result()
                    self._note_told(state)
                    yield self._files(state)
            finally:
                await states.aclose()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def taken(self, change: Change) -> None:
        """Write the new statuses, when there is something new to say."""
        for status in change.statuses:
            if writer := self._writers.get(status.kind):
                writer.want((status.namespace, status.name), status)
        for key in change.removed_statuses:
            if writer := self._writers.get(key.kind):
                writer.want((key.namespace, key.name), None)

    def _leadership_changed(self) -> None:
        for writer in self._writers.values():
            writer.look_at_all()

    def _note_told(self, state: State) -> None:
        for resource in TOLD:
            writer, held = self._writers[resource.kind], self._held[resource.kind]
            objects = state.get(resource, {})
            for name in held.keys() - objects.keys():
                del held[name]
            for name, kept in objects.items():
                if held.get(name) is not kept:
                    held[name] = kept
                    writer.look_at(name)

    def _files(self, state: State) -> Files:
        """The objects; those that have not changed are the same as before."""
        before, self._objects = self._objects, {}
        for resource, found in state.items():
            for (namespace, name), kept in found.items():
                place = f"{resource.plural}/{namespace}/{name}" if namespace else f"{resource.plural}/{name}"
                last = before.get(place)
                if last is None or last[0] is not kept:
                    last = kept, ApiObject(resource.kind, resource.api_version, kept.text)
                self._objects[place] = last
        return {place: found for place, (_, found) in self._objects.items()}


def _followed(namespace: str) -> tuple[Resource, ...]:
    """Namespaces themselves are in no namespace."""
    return tuple(each for each in RESOURCES if not namespace or each.kind != "Namespace")
