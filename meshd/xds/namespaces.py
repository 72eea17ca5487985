"""A resource set as clients of single namespaces get it: with their consumer routes, as plain resources."""

from __future__ import annotations

import msgspec

from meshd.model.listeners import Listener
from meshd.model.routes import RouteConfig
from meshd.xds import encode
from meshd.xds.resources import LISTENER, ROUTE_CONFIG, Resource, ResourceSet, pack


class Namespaces:
    """Views of one resource set.

    Where a listener names other routes for a namespace, they take the place of its own, under the same name:
    so an HTTP listener, and the connections to it, do not change when such routes come or go.
    """

    def __init__(self, resources: ResourceSet) -> None:
        self._all = resources
        self._plain: ResourceSet | None = None
        self._own: dict[str, dict[str, dict[str, Resource]]] = {}
        """By namespace and type: what replaces the resources of these names."""
        self._views: dict[str, ResourceSet] = {}

    def of(self, namespace: str) -> ResourceSet:
        """What a client gets whose callers are all of a namespace; "": all there is, as an agent needs it."""
        if not namespace:
            return self._all
        if self._plain is None:
            self._plain = self._split()
        if namespace not in self._own:
            return self._plain
        if namespace not in self._views:
            own = {
                type_url: {**self._plain.of(type_url), **replaced}
                for type_url, replaced in self._own[namespace].items()
            }
            by_type = {**self._plain.by_type, **own}
            self._views[namespace] = ResourceSet(self._plain.version, by_type)
        return self._views[namespace]

    def _split(self) -> ResourceSet:
        """Take the namespaces' own routes out. Returns the view of those that have none."""
        resources = self._all
        listeners, configs = dict(resources.of(LISTENER)), dict(resources.of(ROUTE_CONFIG))
        for name, resource in resources.of(LISTENER).items():
            listener = resource.source
            if isinstance(listener, Listener) and (listener.consumers or listener.tcp_consumers):
                plain = msgspec.structs.replace(listener, consumers=(), tcp_consumers=())
                listeners[name] = pack(name, encode.listener(plain), plain)
                for namespace, _ in listener.tcp_consumers:
                    seen = listener.seen_from(namespace)
                    replaced = pack(name, encode.listener(seen), seen)
                    self._replace(namespace, LISTENER, replaced)
                for namespace, own in listener.consumers:
                    config = configs.pop(own).source
                    assert isinstance(config, RouteConfig)
                    config = msgspec.structs.replace(config, name=listener.route_config)
                    replaced = pack(config.name, encode.route_config(config), config)
                    self._replace(namespace, ROUTE_CONFIG, replaced)
        if not self._own:
            return resources
        by_type = {**resources.by_type, LISTENER: listeners, ROUTE_CONFIG: configs}
        return ResourceSet(resources.version, by_type)

    def _replace(self, namespace: str, type_url: str, resource: Resource) -> None:
        self._own.setdefault(namespace, {}).setdefault(type_url, {})[resource.name] = resource
