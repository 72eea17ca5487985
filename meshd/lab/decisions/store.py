"""The objects that the user wants, as they were given. Pure: no process, no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

import msgspec

from meshd.kube.objects import Key
from meshd.lab.decisions.addressing import AddressError, asked_ips, cluster_ips
from meshd.lab.manifests.files import Manifest
from meshd.lab.manifests.objects import (
    Deployment,
    EndpointSlice,
    Namespace,
    Pod,
    Service,
)
from meshd.lab.manifests.parsing import Acted, InvalidObjectError, key_of, parse
from meshd.workloads.membership import Enrol, left_out_by

_T = TypeVar("_T", bound=Acted)


class Wanted(msgspec.Struct, frozen=True):
    """One object."""

    source: dict[str, object]
    """As it was given."""
    folder: str
    acted: Acted | None
    """Typed, when the lab acts upon it."""
    vips: tuple[str, ...] = ()


class Store:
    """All objects that the user wants, and the VIPs of the services among them."""

    def __init__(self) -> None:
        self._objects: dict[Key, Wanted] = {}

    def apply(self, manifests: list[Manifest]) -> list[tuple[str, str]]:
        """Create or update objects, all or none; what became of each. Raises InvalidObjectError."""
        objects = dict(self._objects)
        results = []
        parsed = [(key_of(manifest.source), manifest, parse(manifest.source)) for manifest in manifests]
        # Nobody gets by chance what another one asks for by number.
        asked = {ip: key for key, _, acted in parsed if isinstance(acted, Service) for ip in asked_ips(acted)}
        for key, manifest, acted in parsed:
            before = objects.get(key)
            vips = self._vips(key, acted, before, objects, asked) if isinstance(acted, Service) else ()
            after = Wanted(manifest.source, manifest.folder, acted, vips)
            objects[key] = after
            outcome = "created" if before is None else "unchanged" if before == after else "configured"
            results.append((str(key), outcome))
        self._objects = objects
        return results

    @staticmethod
    def _vips(
        key: Key,
        service: Service,
        before: Wanted | None,
        objects: Mapping[Key, Wanted],
        asked: Mapping[str, Key],
    ) -> tuple[str, ...]:
        taken = {ip for ip, other in asked.items() if other != key}
        taken |= {ip for other, wanted in objects.items() if other != key for ip in wanted.vips}
        try:
            return cluster_ips(service, taken, before.vips if before else ())
        except AddressError as error:
            raise InvalidObjectError(str(key), "", str(error)) from error

    def delete(self, manifests: list[Manifest]) -> list[tuple[str, str]]:
        """Remove objects, with a Namespace all that is in it; what became of each.

        Raises InvalidObjectError.
        """
        results = []
        for manifest in manifests:
            key = key_of(manifest.source)
            found = self._objects.pop(key, None)
            results.append((str(key), "not found" if found is None else "deleted"))
            if found is not None and key.kind == "Namespace":
                for inner in [k for k in self._objects if k.namespace == key.name]:
                    del self._objects[inner]
                    results.append((str(inner), "deleted"))
        return results

    def _of(self, kind: type[_T]) -> Iterator[tuple[_T, Wanted]]:
        for wanted in self._objects.values():
            if isinstance(wanted.acted, kind):
                yield wanted.acted, wanted

    def services(self) -> list[tuple[Service, tuple[str, ...]]]:
        """All services, each with its VIPs."""
        return [(service, wanted.vips) for service, wanted in self._of(Service)]

    def deployments(self) -> list[tuple[Deployment, str]]:
        """All deployments, each with the folder of its manifest."""
        return [(deployment, wanted.folder) for deployment, wanted in self._of(Deployment)]

    def pods(self) -> list[tuple[Pod, str]]:
        """All pods that are not a Deployment's, each with the folder of its manifest."""
        return [(pod, wanted.folder) for pod, wanted in self._of(Pod)]

    def slices(self) -> list[EndpointSlice]:
        """The user's own endpoint slices."""
        return [one for one, _ in self._of(EndpointSlice)]

    def in_mesh(self, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str]) -> bool:
        """Whether a pod with these labels and annotations is to be enrolled. The lab enrols all by itself."""
        of = next((one.metadata for one, _ in self._of(Namespace) if one.metadata.name == namespace), None)
        theirs = (of.labels, of.annotations) if of is not None else ({}, {})
        return not left_out_by(labels, annotations, *theirs, Enrol.ALL)

    def for_control_plane(self) -> dict[Key, dict[str, object]]:
        """What the user wrote, for the control plane: services with their VIPs, no pods, no templates."""
        found = {}
        for key, wanted in self._objects.items():
            if isinstance(wanted.acted, Pod | Deployment):
                continue
            found[key] = _with_vips(wanted) if wanted.vips else wanted.source
        return found


def _with_vips(wanted: Wanted) -> dict[str, object]:
    spec = wanted.source["spec"]
    if not isinstance(spec, dict):
        return wanted.source
    families = ["IPv6" if ":" in ip else "IPv4" for ip in wanted.vips]
    filled = {**spec, "clusterIP": wanted.vips[0], "clusterIPs": list(wanted.vips), "ipFamilies": families}
    return {**wanted.source, "spec": filled}
