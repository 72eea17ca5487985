"""Translation from version to version: of what has changed, and of what has to do with it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshd.gateway.components import Links, partition
from meshd.gateway.translate import translate
from meshd.kube.collection import Objects
from meshd.kube.grpcroute import RequestRoute
from meshd.kube.objects import Key, ReferenceGrant
from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.model.status import ConfigStatus, ObjectStatus


@dataclass(frozen=True, slots=True)
class Change:
    """From one version to the next."""

    config: Delta
    """Its generation is 0."""
    statuses: tuple[ObjectStatus, ...] = ()
    """New ones, and others than before."""
    removed_statuses: tuple[Key, ...] = ()
    """Of objects that are gone, or of which there is nothing to say any more."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a component came to."""

    keys: frozenset[Key]
    snapshot: Snapshot
    status: ConfigStatus
    accepted: Mapping[Key, RequestRoute]


class Translator:
    """Holds what every component of the objects came to, and does only those anew that changed.

    The outcome is that of ``translate`` of all objects: what that does with one depends on its component
    only, and on ReferenceGrants, which are few and seldom change.
    """

    def __init__(self) -> None:
        self.accepted: dict[Key, RequestRoute] = {}
        """The version of each route that is in force."""
        self._links = Links()
        self._parts: dict[Key, _Part] = {}
        """By each of their objects."""
        self._grants: Mapping[Key, ReferenceGrant] = {}

    def update(self, objects: Objects) -> Change:
        """Translate the next version of a collection's objects."""
        changed = objects.changed
        if any(key.kind == "ReferenceGrant" for key in changed):
            self._grants = {
                key: value for key, value in objects.by_key.items() if isinstance(value, ReferenceGrant)
            }
            changed = frozenset(self._parts).union(objects.by_key, objects.problems)
        old = self._take_out(changed)
        affected = set(changed).union(*(part.keys for part in old))
        present = {key for key in affected if key in objects.by_key or key in objects.problems}
        for key in changed:
            if key in present:
                self._links.put(key, objects.by_key.get(key))
            else:
                self._links.remove(key)
        components = list(partition(self._links, present))
        # A new link may lead to what was a component of its own.
        old += self._take_out(frozenset().union(*components))
        last = {key: route for part in old for key, route in part.accepted.items()}
        new = [self._translated(keys, objects, last) for keys in components]
        for part in old:
            for route in part.accepted:
                self.accepted.pop(route, None)
        for part in new:
            self.accepted.update(part.accepted)
            self._parts.update(dict.fromkeys(part.keys, part))
        return _change(old, new)

    def _take_out(self, keys: Iterable[Key]) -> list[_Part]:
        """The parts that have any of these objects; they are no more."""
        found = []
        for key in keys:
            part = self._parts.get(key)
            if part is not None:
                found.append(part)
                for each in part.keys:
                    del self._parts[each]
        return found

    def _translated(
        self,
        keys: frozenset[Key],
        objects: Objects,
        last: Mapping[Key, RequestRoute],
    ) -> _Part:
        ordered = sorted(keys)
        own = Objects(
            {**self._grants, **{key: objects.by_key[key] for key in ordered if key in objects.by_key}},
            {key: objects.sources[key] for key in ordered if key in objects.sources},
            {key: objects.problems[key] for key in ordered if key in objects.problems},
        )
        found = translate(own, last)
        return _Part(keys, found.snapshot, found.status, found.accepted)


def _change(old: list[_Part], new: list[_Part]) -> Change:
    before = {_key(status): status for part in old for status in part.status.objects}
    after = {_key(status): status for part in new for status in part.status.objects}
    return Change(
        difference(_joined(old), _joined(new)),
        tuple(status for key, status in sorted(after.items()) if before.get(key) != status),
        tuple(sorted(before.keys() - after.keys())),
    )


def _key(status: ObjectStatus) -> Key:
    return Key(status.kind, status.namespace, status.name)


def _joined(parts: list[_Part]) -> Snapshot:
    if len(parts) == 1:
        return parts[0].snapshot
    return Snapshot(
        0,
        {name: found for part in parts for name, found in part.snapshot.listeners.items()},
        {name: found for part in parts for name, found in part.snapshot.route_configs.items()},
        {name: found for part in parts for name, found in part.snapshot.clusters.items()},
        {name: found for part in parts for name, found in part.snapshot.endpoints.items()},
    )
