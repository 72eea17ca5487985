"""Manifests to objects: YAML (or JSON, which is YAML) to typed, checked objects, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import msgspec
import yaml

from meshd.kube import httproute_rules
from meshd.kube.httproute import HTTPRoute
from meshd.kube.known_fields import unknown
from meshd.kube.objects import EndpointSlice, Key, Namespace, Pod, ReferenceGrant, Service
from meshd.kube.service_rules import endpoint_slice_problems, service_problems
from meshd.model.status import Problem, Severity

KubeObject = Namespace | Service | EndpointSlice | Pod | HTTPRoute | ReferenceGrant
KINDS: dict[str, tuple[type[KubeObject], frozenset[str]]] = {
    "Namespace": (Namespace, frozenset({"v1"})),
    "Service": (Service, frozenset({"v1"})),
    "Pod": (Pod, frozenset({"v1"})),
    "EndpointSlice": (EndpointSlice, frozenset({"discovery.k8s.io/v1"})),
    "HTTPRoute": (
        HTTPRoute,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}),
    ),
    "ReferenceGrant": (
        ReferenceGrant,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}),
    ),
}
"""The kinds acted on, and the apiVersions in which they are read."""
MAX_DEPTH = 64
MAX_NODES = 1_000_000
"""Bounds of one document, so that neither nesting nor YAML aliases can exhaust us."""
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parsed:
    """One object of a file. ``object`` is None when it is invalid; its problems then say why."""

    key: Key
    object: KubeObject | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a file holds. ``problems`` are those of the file, not of one object."""

    objects: tuple[Parsed, ...] = ()
    ignored: tuple[Key, ...] = ()
    """Objects of kinds that the mesh does not act on."""
    problems: tuple[Problem, ...] = ()
    broken: bool = False
    """Not readable as YAML: nothing is known about what it should hold."""


class _Loader(yaml.CSafeLoader):
    """Refuses a key that is given twice, as the API server does with strict field validation."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            name = key.value
            if isinstance(name, str) and name != "<<" and name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name} is given twice", problem_mark=key.start_mark)
            seen.add(name if isinstance(name, str) else id(key))
        return super().construct_mapping(node, deep)


class _TooLargeError(Exception):
    pass


def parse(text: str) -> ParsedFile:
    """All objects of a manifest of any number of documents. Bad input is in the result, never raised."""
    documents: list[object] = []
    try:
        _check_depth(text)
        documents.extend(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError, _TooLargeError) as error:
        return ParsedFile(problems=(Problem(message=_yaml_message(error)),), broken=True)
    objects: list[Parsed] = []
    ignored: list[Key] = []
    problems: list[Problem] = []
    for index, document in enumerate(documents):
        where = f"document {index + 1}" if len(documents) > 1 else ""
        try:
            plain = _plain(document, 0, [0])
        except _TooLargeError as error:
            problems.append(Problem(field=where, message=str(error)))
            continue
        for item_where, raw in _items(plain, where):
            _object(raw, item_where, objects, ignored, problems)
    return ParsedFile(tuple(objects), tuple(ignored), tuple(problems))


def _check_depth(text: str) -> None:
    """Refuse deep nesting before a tree is made: libyaml's composer recurses in C, off the stack's end.

    Raises _TooLargeError, yaml.YAMLError.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
                raise _TooLargeError(f"nested deeper than {MAX_DEPTH}{line}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _yaml_message(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        context = f"{error.context}: " if error.context else ""
        return f"not valid YAML: {context}{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return str(error) if isinstance(error, _TooLargeError) else f"not valid YAML: {error}"


def _plain(value: object, depth: int, count: list[int]) -> object:
    """A copy without nulls, which Kubernetes takes as unset."""
    count[0] += 1
    if depth > MAX_DEPTH or count[0] > MAX_NODES:
        raise _TooLargeError(f"nested deeper than {MAX_DEPTH} or larger than {MAX_NODES} values")
    if isinstance(value, dict):
        return {k: _plain(v, depth + 1, count) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_plain(v, depth + 1, count) for v in value]
    return value


def _items(document: object, where: str) -> Iterator[tuple[str, object]]:
    """A document's objects: itself, or a List's items."""
    if document is None:
        return
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        kind = document.get("kind", "")
        if isinstance(kind, str) and kind.endswith("List"):
            for i, item in enumerate(document["items"]):
                # The items of a typed list (ServiceList) need not repeat their kind.
                if isinstance(item, dict) and kind != "List":
                    item = {
                        "kind": kind.removesuffix("List"),
                        "apiVersion": document.get("apiVersion"),
                        **item,
                    }
                yield f"{where} items[{i}]".strip(), item
            return
    yield where, document


def _object(
    raw: object, where: str, objects: list[Parsed], ignored: list[Key], problems: list[Problem]
) -> None:
    if not isinstance(raw, dict):
        problems.append(Problem(field=where, message="is no object: a mapping with apiVersion and kind"))
        return
    kind, api_version, metadata = raw.get("kind"), raw.get("apiVersion"), raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    for field, value in (("kind", kind), ("apiVersion", api_version), ("metadata.name", name)):
        if not isinstance(value, str) or not value:
            problems.append(
                Problem(
                    field=f"{where} {field}".strip(), message="must be set, to a string that is not empty"
                )
            )
            return
    assert isinstance(kind, str)
    assert isinstance(metadata, dict)
    namespace = "" if kind == "Namespace" else str(metadata.get("namespace") or "default")
    key = Key(kind, namespace, str(name))
    if kind not in KINDS:
        ignored.append(key)
        return
    read, versions = KINDS[kind]
    if api_version not in versions:
        if (
            str(api_version).partition("/")[0] == next(iter(versions)).partition("/")[0]
            or kind == "HTTPRoute"
        ):
            message = f"{api_version} is not supported; use {' or '.join(sorted(versions))}"
            objects.append(Parsed(key, None, (Problem(field="apiVersion", message=message),)))
        else:
            ignored.append(key)  # Another group's kind of the same name.
        return
    objects.append(_typed(raw, key, read))


def _typed(raw: dict[str, object], key: Key, read: type[KubeObject]) -> Parsed:
    warnings = tuple(
        Problem(field=path, message="no such field; it does nothing", severity=Severity.WARNING)
        for path in unknown(raw, read)
    )
    try:
        value = msgspec.convert(raw, read)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        message, path = (found["what"], found["path"]) if found else (str(error), "")
        return Parsed(key, None, (Problem(field=path or "", message=_reason(message)), *warnings))
    if value.metadata.namespace != key.namespace:
        metadata = msgspec.structs.replace(value.metadata, namespace=key.namespace)
        value = msgspec.structs.replace(value, metadata=metadata)
    errors: tuple[Problem, ...] = ()
    if isinstance(value, HTTPRoute):
        errors = tuple(httproute_rules.problems(value))
    elif isinstance(value, Service):
        errors = tuple(service_problems(value))
    elif isinstance(value, EndpointSlice):
        errors = tuple(endpoint_slice_problems(value))
    bad = any(problem.severity is Severity.ERROR for problem in errors)
    return Parsed(key, None if bad else value, errors + warnings)


def _reason(message: str) -> str:
    """msgspec's reason as a part of a sentence."""
    message = message.replace("`", "")
    return message[:1].lower() + message[1:]
