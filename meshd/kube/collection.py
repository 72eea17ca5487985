"""All objects of a set of manifests: one of each, the last good version of each, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from meshd.kube.httproute import HTTPRoute
from meshd.kube.objects import EndpointSlice, Key, Pod, ReferenceGrant, Service
from meshd.kube.parse import KubeObject, Parsed, ParsedFile, parse
from meshd.model.status import Problem, Severity

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a manifest's text: why it could not be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Objects:
    """What is in force, and the account of it."""

    by_key: Mapping[Key, KubeObject] = field(default_factory=dict)
    sources: Mapping[Key, str] = field(default_factory=dict)
    """The file that each object, good or bad, comes from."""
    problems: Mapping[Key, tuple[Problem, ...]] = field(default_factory=dict)
    """Of objects, and of files under ``Key("File", "", path)``."""
    ignored: frozenset[Key] = frozenset()

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
    def routes(self) -> dict[tuple[str, str], HTTPRoute]:
        """By (namespace, name)."""
        return self.of(HTTPRoute)

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
        self._texts: dict[str, str | Unreadable] = {}
        self._parsed: dict[str, ParsedFile] = {}
        self._objects = Objects()

    def update(self, files: Mapping[str, str | Unreadable]) -> Objects:
        """The objects of all manifests, given their texts by path. Files not given any more are gone."""
        problems: dict[Key, list[Problem]] = {}
        parsed: dict[str, ParsedFile] = {}
        for path in sorted(files):
            fresh = self._parse(path, files[path])
            if fresh.problems:
                problems[Key("File", "", path)] = list(fresh.problems)
            parsed[path] = fresh
        objects: dict[Key, KubeObject] = {}
        sources: dict[Key, str] = {}
        for path, content in parsed.items():
            for item in content.objects:
                self._take(item, path, objects, sources, problems)
        ignored = frozenset(key for content in parsed.values() for key in content.ignored)
        self._texts, self._parsed = dict(files), parsed
        frozen = {key: tuple(found) for key, found in problems.items() if found}
        self._objects = Objects(objects, sources, frozen, ignored)
        return self._objects

    def _parse(self, path: str, text: str | Unreadable) -> ParsedFile:
        before = self._parsed.get(path)
        if before is not None and self._texts.get(path) == text:
            return before
        if isinstance(text, Unreadable):
            fresh = ParsedFile(problems=(Problem(message=text.reason),), broken=True)
        else:
            fresh = parse(text)
        if not fresh.broken:
            return fresh
        if before is None or not before.objects:
            return fresh
        problem = fresh.problems[0]
        message = f"{problem.message}; the objects of its last good version stay in force"
        return ParsedFile(
            before.objects, before.ignored, (Problem(field=problem.field, message=message),), broken=True
        )

    def _take(
        self,
        item: Parsed,
        path: str,
        objects: dict[Key, KubeObject],
        sources: dict[Key, str],
        problems: dict[Key, list[Problem]],
    ) -> None:
        key = item.key
        mine = problems.setdefault(key, [])
        if key in sources:
            # What was wrong with the version that lost is of no interest any more.
            mine[:] = [
                Problem(
                    message=f"is also in {sources[key]}; the one in {path} is used", severity=Severity.WARNING
                )
            ]
        sources[key] = path
        mine.extend(item.problems)
        value = item.object
        if value is None:
            value = self._objects.by_key.get(key)
            if value is not None:
                mine.append(
                    Problem(message="its last good version stays in force", severity=Severity.WARNING)
                )
        if value is not None:
            objects[key] = value
