"""What the tests' API server holds: objects, and all that ever happened to them. No I/O."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kube_api.selectors import Matches

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace, name."""


class Event(NamedTuple):
    """A change of one object, or a bookmark."""

    version: int
    kind: str
    plural: str
    object: Object
    before: Object | None

    def seen_by(self, namespace: str, matches: Matches) -> str:
        """What it is for who watches a namespace (empty: all) and what matches; empty: nothing."""
        if self.kind == "BOOKMARK":
            return self.kind
        if namespace not in ("", self.object["metadata"].get("namespace", "")):
            return ""
        now = self.kind != "DELETED" and matches(self.object)
        then = self.before is not None and matches(self.before)
        return {(True, True): "MODIFIED", (True, False): "ADDED", (False, True): "DELETED"}.get(
            (now, then), ""
        )


class Store:
    """Objects by resource; every change has a resourceVersion of its own."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[Key, Object] = {}
        self.history: list[Event] = []
        self.oldest = 0
        """Watches from before this version are 410."""
        self._pages: dict[str, list[Object]] = {}

    def write(self, plural: str, given: Object) -> Object:
        """Create or replace; the version, and what is new, are the store's."""
        made = copy.deepcopy(given)
        key = (plural, made["metadata"].get("namespace", ""), made["metadata"]["name"])
        before = self.objects.get(key)
        self.version += 1
        kept = before["metadata"] if before else {"creationTimestamp": _now(), "uid": f"uid-{self.version}"}
        for name in ("creationTimestamp", "uid"):
            made["metadata"].setdefault(name, kept[name])
        made["metadata"]["resourceVersion"] = str(self.version)
        made["metadata"]["generation"] = _generation(before, made)
        self.objects[key] = made
        self._note("MODIFIED" if before else "ADDED", plural, made, before)
        return made

    def remove(self, key: Key) -> Object:
        """Take it away, at once. Raises KeyError."""
        before = self.objects.pop(key)
        self.version += 1
        gone = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.version)}}
        self._note("DELETED", key[0], gone, before)
        return gone

    def bookmark(self, plural: str) -> None:
        """Tell watches of a kind which version it is."""
        self._note("BOOKMARK", plural, {"metadata": {"resourceVersion": str(self.version)}}, None)

    def _note(self, kind: str, plural: str, made: Object, before: Object | None) -> None:
        told = json.loads(json.dumps(made))  # what there was then, whatever a test does to the object
        self.history.append(Event(self.version, kind, plural, told, before))

    def found(self, plural: str, namespace: str, matches: Matches) -> list[Object]:
        """Those of a kind in a namespace (empty: all)."""
        return [
            each
            for (of, where, _), each in self.objects.items()
            if of == plural and namespace in ("", where) and matches(each)
        ]

    def page(
        self, plural: str, namespace: str, matches: Matches, limit: int, token: str
    ) -> tuple[list[Object], Object]:
        """A piece of a list (``limit`` 0: all), and the list's metadata.

        Raises KeyError: the token is too old.
        """
        if token:
            items, version = self._pages.pop(token), int(token.split("-")[0])
        else:
            items, version = self.found(plural, namespace, matches), self.version
        page, rest = (items[:limit], items[limit:]) if limit else (items, [])
        metadata: Object = {"resourceVersion": str(version)}
        if rest:
            token = f"{version}-{plural}-{len(rest)}-{len(self._pages)}"
            self._pages[token] = rest
            metadata |= {"continue": token, "remainingItemCount": len(rest)}
        return page, metadata

    def expire_pages(self) -> None:
        """No list can be gone on with."""
        self._pages.clear()


def _generation(before: Object | None, made: Object) -> int:
    """One more than before where what is wanted has changed, and not only what is."""
    if before is None:
        return 1
    return int(before["metadata"]["generation"]) + (before.get("spec") != made.get("spec"))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
