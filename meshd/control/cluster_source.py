"""Objects from a Kubernetes API server, and what became of routes and policies written back to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from meshd.control.status_writer import StatusWriter
from meshd.gateway.incremental import Change
from meshd.kube.collection import ApiObject, Edits
from meshd.kube.crds import POLICIES
from meshd.kube.parse import OWN_VERSION
from meshd.kube_api.access import Access
from meshd.kube_api.client import Client
from meshd.kube_api.following import Changes, Following
from meshd.kube_api.leading import Leading
from meshd.kube_api.reflection import Name
from meshd.kube_api.resource import Kept, Resource

TOLD = (
    Resource("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes"),
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

    async def versions(self) -> AsyncGenerator[Edits, None]:
        """All objects, and then those that have changed. An API server that is away is waited for."""
        async with Client(self._access) as client:
            leading = Leading(client, self._lease_namespace, LEASE, self._identity, self._leadership_changed)
            self._writers = {
                each.kind: StatusWriter(client, each, self._held[each.kind].get, lambda: leading.leads)
                for each in TOLD
            }
            following = Following(client, _followed(self._namespace), self._namespace)
            runs = [leading.run(), *(writer.run() for writer in self._writers.values())]
            tasks = [asyncio.create_task(each) for each in runs]
            several = following.changes()
            try:
                async for changes in several:
                    for task in tasks:
                        if task.done():
                            task.result()
                    self._note_told(changes)
                    yield _edits(changes)
            finally:
                await several.aclose()
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

    def _note_told(self, changes: Changes) -> None:
        for resource in TOLD:
            writer, held = self._writers[resource.kind], self._held[resource.kind]
            for name, kept in changes.get(resource, {}).items():
                if kept is None:
                    held.pop(name, None)
                else:
                    held[name] = kept
                    writer.look_at(name)


def _edits(changes: Changes) -> Edits:
    return {
        f"{resource.plural}/{namespace}/{name}" if namespace else f"{resource.plural}/{name}": (
            None if kept is None else ApiObject(resource.kind, resource.api_version, kept.text)
        )
        for resource, found in changes.items()
        for (namespace, name), kept in found.items()
    }


def _followed(namespace: str) -> tuple[Resource, ...]:
    """Namespaces themselves are in no namespace."""
    return tuple(each for each in RESOURCES if not namespace or each.kind != "Namespace")
