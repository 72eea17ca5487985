"""A resource set as clients at single places get it: with the priorities that endpoint sets mean there."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.model.clusters import EndpointSet, Nearness
from meshd.model.shared_map import SharedMap
from meshd.xds import encode
from meshd.xds.nearness import Place, seen_from, zones
from meshd.xds.resources import ENDPOINTS, Resource, ResourceSet, pack

_Endpoints = SharedMap[str, Resource]


class Places:
    """Views of one resource set. Of a set that follows the one before, only what has changed takes time."""

    def __init__(self, resources: ResourceSet, before: Places | None = None) -> None:
        self._all = resources
        follows = before is not None and resources.follows is before._all.identity
        self._last = before if before is not None and follows else None
        self._near, self._zones = self._survey()
        self._endpoints: dict[Place, _Endpoints] = {}
        self._views: dict[tuple[object, Place], ResourceSet] = {}
        if before is not None:
            before._last = None  # it is not needed any more, nor is the one before it

    def seen_from(self, base: ResourceSet, place: Place) -> ResourceSet:
        """What a client at a place gets. ``base``: all, or a view that has the same endpoint sets."""
        if not self._near:
            return base
        place = place._replace(zone=place.zone or self.zone_of(place.node))
        key = base.identity, place
        if key not in self._views:
            by_type = {**base.by_type, ENDPOINTS: self._endpoints_at(place)}
            last = self._last._views.get((base.follows, place)) if self._last is not None else None
            follows = last.identity if last is not None else None
            self._views[key] = ResourceSet(base.version, by_type, base.changed, follows)
        return self._views[key]

    def zone_of(self, node: str) -> str:
        """Where the endpoints on a node are; empty: there are none, or it does not matter."""
        return self._zones.get(node, "")

    def _survey(self) -> tuple[frozenset[str], Mapping[str, str]]:
        """The endpoint sets that are not the same everywhere, and the zones of nodes."""
        last = self._last
        if last is None:
            near = frozenset(name for name, each in self._all.of(ENDPOINTS).items() if _is_near(each))
            return near, zones(map(_endpoint_set, self._all.of(ENDPOINTS).values())) if near else {}
        changed = self._all.changed.get(ENDPOINTS, frozenset())
        now = [each for name in changed if (each := self._all.of(ENDPOINTS).get(name)) is not None]
        near = (last._near - changed) | {each.name for each in now if _is_near(each)}
        if not near:
            return near, {}
        before = last._zones or zones(map(_endpoint_set, self._all.of(ENDPOINTS).values()))
        return near, {**before, **zones(map(_endpoint_set, now))}

    def _endpoints_at(self, place: Place) -> _Endpoints:
        if place not in self._endpoints:
            self._endpoints[place] = self._made(place)
        return self._endpoints[place]

    def _made(self, place: Place) -> _Endpoints:
        found = self._all.of(ENDPOINTS)
        last = self._last._endpoints.get(place) if self._last is not None else None
        if last is None:
            return SharedMap.of(found).changed({name: _at(place, found[name]) for name in self._near})
        changed = self._all.changed.get(ENDPOINTS, frozenset())
        return last.changed(
            {name: _at(place, found[name]) for name in changed if name in found},
            [name for name in changed if name not in found],
        )


def _endpoint_set(resource: Resource) -> EndpointSet:
    assert isinstance(resource.source, EndpointSet)
    return resource.source


def _is_near(resource: Resource) -> bool:
    return _endpoint_set(resource).nearness is not Nearness.ANY


def _at(place: Place, resource: Resource) -> Resource:
    if not _is_near(resource):
        return resource
    found = seen_from(place, _endpoint_set(resource))
    return pack(found.name, encode.endpoints(found), found)
