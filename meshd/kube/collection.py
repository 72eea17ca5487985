"""All objects of a set of manifests: one of each, the last good version of each, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from meshd.kube.grpcroute import GRPCRoute, RequestRoute
from meshd.kube.httproute import HTTPRoute
from meshd.kube.l4routes import L4Route, TCPRoute, TLSRoute
from meshd.kube.objects import EndpointSlice, Key, Pod, ReferenceGrant, Service
from meshd.kube.parse import KubeObject, Parsed, ParsedFile, parse, parse_object
from meshd.model.shared_map import SharedMap
from meshd.model.status import Problem, Severity

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a manifest's text: why it could not be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class ApiObject:
    """In place of a manifest's text: an object as an API server sends it, JSON."""

    kind: str
    api_version: str
    text: bytes


Content = str | ApiObject | Unreadable
"""What is read of one place."""
Edits = Mapping[str, Content | None]
"""What is in places where something else was before; None: nothing any more."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What is in force, and the account of it."""

    by_key: Mapping[Key, KubeObject] = field(default_factory=SharedMap)
    sources: Mapping[Key, str] = field(default_factory=SharedMap)
    """The file that each object, good or bad, comes from."""
    problems: Mapping[Key, tuple[Problem, ...]] = field(default_factory=SharedMap)
    """Of objects, and of files under ``Key("File", "", path)``."""
    ignored: frozenset[Key] = frozenset()
    changed: frozenset[Key] = frozenset()
    """What is not as it was in the version before: the object, its problems, or its file."""

    def of(self, kind: type[_T]) -> dict[tuple[str, str], _T]:
        """The objects of a type by (namespace, name), sorted by that."""
        found = {(k.namespace, k.name): o for k, o in self.by_key.items() if isinstance(o, kind)}
        return dict(sorted(found.items()))

    @property
    def services(self) -> dict[tuple[str, str], Service]:
        """By (namespace, name)."""
        return self.of(Service)

    @property
    def slices(self) -> dict[tuple[str, str], EndpointSlice]:
        """By (namespace, name)."""
        return self.of(EndpointSlice)

    @property
    def routes(self) -> dict[Key, RequestRoute]:
        """Of all kinds that decide on requests, the more specific kind first (GEP-1294, "Route types")."""
        kinds: tuple[type[RequestRoute], ...] = (GRPCRoute, HTTPRoute)
        return {Key(kind.__name__, *key): route for kind in kinds for key, route in self.of(kind).items()}

    @property
    def l4_routes(self) -> dict[Key, L4Route]:
        """Of all kinds that decide on connections."""
        kinds: tuple[type[L4Route], ...] = (TLSRoute, TCPRoute)
        return {Key(kind.__name__, *key): route for kind in kinds for key, route in self.of(kind).items()}

    @property
    def grants(self) -> dict[tuple[str, str], ReferenceGrant]:
        """By (namespace, name)."""
        return self.of(ReferenceGrant)

    @property
    def pods(self) -> dict[tuple[str, str], Pod]:
        """By (namespace, name)."""
        return self.of(Pod)


class Collection:
    """Manifests over time. A bad edit leaves the good state alone: of a file that is no YAML any more all
    objects stay as they were, of an object that is invalid its last good version stays.
    """

    def __init__(self) -> None:
        self._texts: dict[str, Content] = {}
        self._parsed: dict[str, ParsedFile] = {}
        self._said: dict[Key, dict[str, list[Parsed]]] = {}
        """By file, all that is said of an object."""
        self._ignored: Counter[Key] = Counter()
        """In how many files."""
        self._by_key: SharedMap[Key, KubeObject] = SharedMap()
        self._sources: SharedMap[Key, str] = SharedMap()
        self._problems: SharedMap[Key, tuple[Problem, ...]] = SharedMap()
        self._objects = Objects()

    @property
    def places(self) -> int:
        """How many there are that hold something."""
        return len(self._texts)

    def update(self, files: Mapping[str, Content]) -> Objects:
        """The objects of all manifests, given their texts by path. Files not given any more are gone."""
        return self.edit(edits(self._texts, files))

    def edit(self, changed: Edits) -> Objects:
        """The objects of all manifests, given those that are not as they were. Only these are looked at."""
        texts = self._texts
        problems: dict[Key, tuple[Problem, ...]] = {}
        affected: set[Key] = set()
        regarded = False
        really: set[Key] = set()
        for path in sorted(changed):
            old = self._parsed.pop(path, _NO_FILE)
            new, text = _NO_FILE, changed[path]
            last = texts.pop(path, None)
            if text is not None:
                new = self._parsed[path] = self._parse(old, last, text)
                texts[path] = text
            if new.ignored != old.ignored:
                self._ignored.subtract(old.ignored)
                self._ignored.update(new.ignored)
                regarded = True
            if new is not old:
                affected |= self._take(path, old, new)
            if new.problems != old.problems:
                file = Key("File", "", path)
                problems[file] = new.problems
                really.add(file)
        objects: dict[Key, KubeObject | None] = {}
        sources: dict[Key, str | None] = {}
        for key in sorted(affected):
            objects[key], sources[key], problems[key] = now = self._settle(key)
            was = self._by_key.get(key), self._sources.get(key), self._problems.get(key, ())
            if now != was:
                really.add(key)
        self._by_key = _with(self._by_key, objects)
        self._sources = _with(self._sources, sources)
        self._problems = _with(self._problems, problems)
        ignored = frozenset((+self._ignored).keys()) if regarded else self._objects.ignored
        self._objects = Objects(self._by_key, self._sources, self._problems, ignored, frozenset(really))
        return self._objects

    def _parse(self, before: ParsedFile, last_text: Content | None, text: Content) -> ParsedFile:
        if last_text == text:
            return before
        if isinstance(text, Unreadable):
            fresh = ParsedFile(problems=(Problem(message=text.reason),), broken=True)
        elif isinstance(text, ApiObject):
            fresh = parse_object(text.text, text.kind, text.api_version)
        else:
            fresh = parse(text)
        if not fresh.broken:
            return fresh
        if not before.objects:
            return fresh
        problem = fresh.problems[0]
        message = f"{problem.message}; the objects of its last good version stay in force"
        return ParsedFile(
            before.objects, before.ignored, (Problem(field=problem.field, message=message),), broken=True
        )

    def _take(self, path: str, old: ParsedFile, new: ParsedFile) -> set[Key]:
        """Take what a file says now in place of what it said. Returns the objects that it is about."""
        affected = {item.key for item in (*old.objects, *new.objects)}
        for key in affected:
            self._said.setdefault(key, {}).pop(path, None)
        for item in new.objects:
            self._said[item.key].setdefault(path, []).append(item)
        for key in affected:
            if not self._said[key]:
                del self._said[key]
        return affected

    def _settle(self, key: Key) -> tuple[KubeObject | None, str | None, tuple[Problem, ...]]:
        """An object, the file that it is from, and what is wrong with it, by all files that hold it."""
        value, source = None, None
        found: list[Problem] = []
        for path, items in sorted(self._said.get(key, {}).items()):
            for item in items:
                if source is not None:
                    # What was wrong with the version that lost is of no interest any more.
                    message = f"is also in {source}; the one in {path} is used"
                    found = [Problem(message=message, severity=Severity.WARNING)]
                source = path
                found.extend(item.problems)
                fresh = item.object
                if fresh is None:
                    fresh = self._by_key.get(key)
                    if fresh is not None:
                        message = "its last good version stays in force"
                        found.append(Problem(message=message, severity=Severity.WARNING))
                value = fresh if fresh is not None else value
        return value, source, tuple(found)


def edits(before: Mapping[str, Content], after: Mapping[str, Content]) -> Edits:
    """What leads from one version of all places to the next. What is the very same has not changed."""
    found: dict[str, Content | None] = dict.fromkeys(before.keys() - after.keys())
    found.update((path, text) for path, text in after.items() if before.get(path) is not text)
    return found


_NO_FILE = ParsedFile()
_Value = TypeVar("_Value")


def _with(values: SharedMap[Key, _Value], news: Mapping[Key, _Value | None]) -> SharedMap[Key, _Value]:
    """Nothing (None, or no problems) is not kept."""
    put = {key: value for key, value in news.items() if value is not None and value != ()}
    return values.changed(put, news.keys() - put.keys())
