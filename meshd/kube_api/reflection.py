"""All objects of one kind as the API server tells of them: list, then watch. Pure.

| phase     | page, more follow | last page | event    | expired (410) | broken off |
|-----------|-------------------|-----------|----------|---------------|------------|
| LISTING   | LISTING           | WATCHING  | -        | LISTING anew  | LISTING anew |
| WATCHING  | -                 | -         | WATCHING | LISTING       | WATCHING     |

Until a list is whole the objects stay those of before: a relist is no gap in what is served.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from meshd.kube_api.resource import Head, Kept, Meta, Page, Status, WatchEvent

Name = tuple[str, str]
"""Namespace and name."""
_HTTP_GONE = 410
_heads = msgspec.json.Decoder(Head)
_events = msgspec.json.Decoder(WatchEvent)
_pages = msgspec.json.Decoder(Page)
_statuses = msgspec.json.Decoder(Status)


class Phase(enum.Enum):
    """What is asked next."""

    LISTING = "listing"
    WATCHING = "watching"


class ExpiredError(Exception):
    """The server has forgotten the version that we know (410): list again."""


class BrokenError(Exception):
    """The server sent what is no answer; the message says what."""


class Reflection:
    """The objects of one kind."""

    def __init__(self) -> None:
        self.phase = Phase.LISTING
        self.resource_version = ""
        """Of the newest that we know; a watch goes on from it."""
        self.continue_token = ""
        """Where the list goes on; empty: at its beginning."""
        self.synced = False
        """A list has been whole once."""
        self._objects: dict[Name, Kept] = {}
        self._listed: dict[Name, Kept] = {}
        self._changed: set[Name] = set()

    @property
    def objects(self) -> Mapping[Name, Kept]:
        """What is there, by namespace and name."""
        return MappingProxyType(self._objects)

    def take_changes(self) -> dict[Name, Kept | None]:
        """The objects that are not as they were when this was last asked; None: gone."""
        changed, self._changed = self._changed, set()
        return {name: self._objects.get(name) for name in changed}

    def forget(self) -> None:
        """There is no such kind any more, so nothing of it."""
        self._changed |= self._objects.keys()
        self._objects = {}
        self.synced = False
        self.expired()

    def page(self, text: bytes) -> bool:
        """A piece of a list; whether what is there has changed. Raises BrokenError."""
        assert self.phase is Phase.LISTING
        try:
            page = _pages.decode(text)
            for item in page.items or ():
                meta = _heads.decode(item).metadata
                self._listed[meta.namespace, meta.name] = _kept(meta, bytes(item))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BrokenError(f"not a list: {error}") from None
        if not page.metadata.resource_version:
            raise BrokenError("a list without a resourceVersion")
        self.continue_token = page.metadata.continue_
        if self.continue_token:
            return False
        before, self._objects = self._objects, self._merged(self._listed)
        changed = before.keys() - self._objects.keys()
        changed |= {name for name, kept in self._objects.items() if before.get(name) is not kept}
        self._changed |= changed
        first = not self.synced
        self._listed = {}
        self.resource_version = page.metadata.resource_version
        self.phase, self.synced = Phase.WATCHING, True
        return first or bool(changed)

    def _merged(self, listed: dict[Name, Kept]) -> dict[Name, Kept]:
        """The list, with what we hold in the same version left as it is: it need not be read again."""
        held = self._objects
        return {name: held[name] if _same(held.get(name), new) else new for name, new in listed.items()}

    def expired(self) -> None:
        """Begin a list anew."""
        self.phase = Phase.LISTING
        self._listed = {}
        self.continue_token = ""

    def line(self, text: bytes) -> bool:
        """A line of a watch; whether what is there has changed. Raises ExpiredError, BrokenError."""
        assert self.phase is Phase.WATCHING
        try:
            event = _events.decode(text)
            if event.type == "ERROR":
                self._failed(_statuses.decode(event.object))
            meta = _heads.decode(event.object).metadata
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BrokenError(f"not a watch event: {error}") from None
        if not meta.resource_version:
            raise BrokenError(f"a {event.type} event without a resourceVersion")
        if event.type == "BOOKMARK":
            self.resource_version = meta.resource_version
            return False
        if not meta.name:
            raise BrokenError(f"a {event.type} event without a name")
        changed = self._apply(event.type, meta, bytes(event.object))
        self.resource_version = meta.resource_version
        return changed

    def _failed(self, status: Status) -> None:
        if status.code == _HTTP_GONE or status.reason in ("Expired", "Gone"):
            raise ExpiredError(status.message)
        raise BrokenError(status.message or status.reason or "an error event without a message")

    def _apply(self, kind: str, meta: Meta, text: bytes) -> bool:
        name = meta.namespace, meta.name
        held = self._objects.get(name)
        if kind == "DELETED":
            if held is None or (meta.uid and held.uid and meta.uid != held.uid):
                return False  # the end of an earlier object of that name
            del self._objects[name]
            self._changed.add(name)
            return True
        if kind not in ("ADDED", "MODIFIED"):
            raise BrokenError(f"an event of type {kind}")
        new = _kept(meta, text)
        if _same(held, new):
            return False  # a watch that goes on may tell the last of what it told again
        self._objects[name] = new
        self._changed.add(name)
        return True


def _kept(meta: Meta, text: bytes) -> Kept:
    return Kept(meta.resource_version, meta.uid, text)


def _same(held: Kept | None, new: Kept) -> bool:
    return (
        held is not None
        and bool(new.resource_version)
        and (held.resource_version, held.uid) == (new.resource_version, new.uid)
    )
