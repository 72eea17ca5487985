"""What the API server knows of a node's pods: their labels and annotations, and their namespaces'."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar

import msgspec

from meshd import log
from meshd.kube_api.access import Access
from meshd.kube_api.client import Client
from meshd.kube_api.following import Following
from meshd.kube_api.reflection import Name
from meshd.kube_api.resource import Kept, Resource
from meshd.workloads.sandboxes import Cluster, Marks, PodMarks

_logger = logging.getLogger("meshd.workloads.cluster")
Object = TypeVar("Object", bound=msgspec.Struct)
NAMESPACES = Resource("Namespace", "v1", "namespaces")


def pods_of(node: str) -> Resource:
    """The pods that are scheduled to a node, which are the only ones that it is told of."""
    return Resource("Pod", "v1", "pods", f"spec.nodeName={node}")


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    service_account_name: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta = _Meta()
    spec: _Spec = _Spec()


_decoder = msgspec.json.Decoder(_Object)


async def follow_cluster(access: Access, node: str) -> AsyncGenerator[Cluster, None]:
    """Once all is known, and after each change. An API server that is away is waited for."""
    pods = pods_of(node)
    held: dict[Resource, dict[Name, Kept]] = {pods: {}, NAMESPACES: {}}
    async with (
        Client(access) as client,
        contextlib.aclosing(Following(client, tuple(held)).changes()) as several,
    ):
        async for changes in several:
            for resource, changed in changes.items():
                for name, kept in changed.items():
                    if kept is None:
                        held[resource].pop(name, None)
                    else:
                        held[resource][name] = kept
            yield cluster(held[pods], held[NAMESPACES])


def cluster(pods: Mapping[Name, Kept], namespaces: Mapping[Name, Kept]) -> Cluster:
    """From the objects' texts. What cannot be read is logged and left out."""
    return Cluster(
        pods={
            name: PodMarks(
                uid=read.metadata.uid,
                labels=read.metadata.labels or {},
                annotations=read.metadata.annotations or {},
                service_account=read.spec.service_account_name or "default",
            )
            for name, read in _read("Pod", pods)
        },
        namespaces={
            name: Marks(labels=read.metadata.labels or {}, annotations=read.metadata.annotations or {})
            for (_, name), read in _read("Namespace", namespaces)
        },
    )


def _read(kind: str, objects: Mapping[Name, Kept]) -> list[tuple[Name, _Object]]:
    read = []
    for name, kept in objects.items():
        try:
            read.append((name, _decoder.decode(kept.text)))
        except msgspec.MsgspecError as error:
            log.event(_logger, logging.ERROR, "bad object", kind=kind, name="/".join(name), reason=error)
    return read
