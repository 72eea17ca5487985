"""A resource set as clients of single namespaces get it: with their consumer routes, as plain resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import NamedTuple

import msgspec

from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.model.shared_map import SharedMap
from meshd.xds import encode
from meshd.xds.resources import LISTENER, ROUTE_CONFIG, Resource, ResourceSet, pack

_NONE: frozenset[str] = frozenset()


class _Part(NamedTuple):
    """What a listener that has other routes for some namespaces comes to."""

    plain: Resource
    """The listener without them."""
    own: tuple[tuple[str, str, Resource], ...]
    """By namespace and type, what replaces the resource of its name."""
    configs: frozenset[str]
    """The names of route configs that are only there for it."""
    route_config: str


class Namespaces:
    """Views of one resource set. Of a set that follows the one before, what has changed takes time, and the
    listeners that have other routes for some namespaces.

    Where a listener names other routes for a namespace, they take the place of its own, under the same name:
    so an HTTP listener, and the connections to it, do not change when such routes come or go.
    """

    def __init__(self, resources: ResourceSet, before: Namespaces | None = None) -> None:
        self._all = resources
        follows = before is not None and resources.follows is before._all.identity
        self._last = before if follows else None
        if before is not None:
            before._last = None  # it is not needed any more, nor is the one before it
        self._parts: Mapping[str, _Part] | None = None
        """By listener; None: nobody has asked yet."""
        self._changed: Mapping[str, frozenset[str]] = {}
        """As ResourceSet's, of any view."""
        self._views: dict[str, ResourceSet] = {}
        self._plain: ResourceSet | None = None

    def of(self, namespace: str) -> ResourceSet:
        """What a client gets whose callers are all of a namespace; "": all there is, as an agent needs it."""
        if not namespace:
            return self._all
        if namespace not in self._views:
            if self._parts is None:
                self._parts = self._split()
            self._views[namespace] = self._view(namespace, self._parts)
        return self._views[namespace]

    def _view(self, namespace: str, parts: Mapping[str, _Part]) -> ResourceSet:
        if not parts:
            return self._all
        own: dict[str, dict[str, Resource]] = {}
        for part in parts.values():
            for each, type_url, resource in part.own:
                if each == namespace:
                    own.setdefault(type_url, {})[resource.name] = resource
        last, plain = self._last, self._plain_types(parts)
        if not own:
            if self._plain is None:
                self._plain = self._made(plain, (last._plain or last._all) if last else None)
            return self._plain
        types = {type_url: found.changed(own.get(type_url, {})) for type_url, found in plain.items()}
        return self._made(types, last._views.get(namespace) if last else None)

    def _made(self, types: Mapping[str, SharedMap[str, Resource]], last: ResourceSet | None) -> ResourceSet:
        by_type = {**self._all.by_type, **types}
        return ResourceSet(self._all.version, by_type, self._changed, last.identity if last else None)

    def _plain_types(self, parts: Mapping[str, _Part]) -> dict[str, SharedMap[str, Resource]]:
        """What those have that have no routes of their own."""
        listeners, configs = (SharedMap.of(self._all.of(each)) for each in (LISTENER, ROUTE_CONFIG))
        hidden = [name for part in parts.values() for name in part.configs]
        return {
            LISTENER: listeners.changed({name: part.plain for name, part in parts.items()}),
            ROUTE_CONFIG: configs.changed({}, hidden),
        }

    def _split(self) -> Mapping[str, _Part]:
        """Look at the listeners that may have such routes, or not as before."""
        last = self._last
        before: dict[str, _Part] = {}
        if last is None or last._parts is None:
            stale: Set[str] = self._all.of(LISTENER).keys()
        else:
            before = dict(last._parts)
            configs = self._all.changed.get(ROUTE_CONFIG, _NONE)
            stale = self._all.changed.get(LISTENER, _NONE).union(
                name for name, part in before.items() if not configs.isdisjoint(part.configs)
            )
        old = {name: before.pop(name) for name in stale if name in before}
        new = {name: part for name in stale if (part := self._part(name)) is not None}
        self._changed = self._also(stale, [*old.values(), *new.values()])
        return {**before, **new}

    def _also(self, listeners: Set[str], parts: list[_Part]) -> Mapping[str, frozenset[str]]:
        changed = self._all.changed
        return {
            **changed,
            LISTENER: changed.get(LISTENER, _NONE) | listeners,
            ROUTE_CONFIG: changed.get(ROUTE_CONFIG, _NONE).union(
                *(part.configs | {part.route_config} for part in parts)
            ),
        }

    def _part(self, name: str) -> _Part | None:
        resource = self._all.of(LISTENER).get(name)
        listener = resource.source if resource is not None else None
        if not isinstance(listener, Listener) or not (listener.consumers or listener.tcp_consumers):
            return None
        plain = msgspec.structs.replace(listener, consumers=(), tcp_consumers=())
        return _Part(
            pack(name, encode.listener(plain), plain),
            tuple(self._own(listener)),
            frozenset(config for _, config in listener.consumers),
            listener.route_config,
        )

    def _own(self, listener: Listener) -> Iterator[tuple[str, str, Resource]]:
        for namespace, _ in listener.tcp_consumers:
            seen = listener.seen_from(namespace)
            yield namespace, LISTENER, pack(seen.name, encode.listener(seen), seen)
        for namespace, own in listener.consumers:
            config = self._all.of(ROUTE_CONFIG)[own].source
            assert isinstance(config, RouteConfig)
            config = msgspec.structs.replace(config, name=listener.route_config)
            yield namespace, ROUTE_CONFIG, pack(config.name, encode.route_config(config), config)
