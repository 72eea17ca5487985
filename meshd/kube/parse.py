"""Manifests to objects: YAML (or JSON, which is YAML) to typed, checked objects, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import msgspec
import yaml

from meshd.kube import l4route_rules, route_rules
from meshd.kube.grpcroute import GRPCRoute, RequestRoute
from meshd.kube.httproute import GATEWAY_GROUP, HTTPRoute
from meshd.kube.known_fields import unknown
from meshd.kube.l4routes import AnyRoute, L4Route, TCPRoute, TLSRoute
from meshd.kube.objects import EndpointSlice, Key, Namespace, Pod, ReferenceGrant, Service
from meshd.kube.policy_rules import policy_problems
from meshd.kube.routepolicy import RoutePolicy
from meshd.kube.service_rules import endpoint_slice_problems, service_problems
from meshd.kube.upstreampolicy import UpstreamPolicy
from meshd.model.status import Problem, Severity

Policy = UpstreamPolicy | RoutePolicy
KubeObject = Namespace | Service | EndpointSlice | Pod | AnyRoute | ReferenceGrant | Policy
OWN_GROUP = "meshd.io"
OWN_VERSION = f"{OWN_GROUP}/v1alpha1"
KINDS: dict[str, tuple[type[KubeObject], frozenset[str]]] = {
    "Namespace": (Namespace, frozenset({"v1"})),
    "Service": (Service, frozenset({"v1"})),
    "Pod": (Pod, frozenset({"v1"})),
    "EndpointSlice": (EndpointSlice, frozenset({"discovery.k8s.io/v1"})),
    "HTTPRoute": (
        HTTPRoute,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}),
    ),
    "GRPCRoute": (GRPCRoute, frozenset({"gateway.networking.k8s.io/v1"})),
    "TLSRoute": (
        TLSRoute,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3"}),
    ),
    "TCPRoute": (
        TCPRoute,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"}),
    ),
    "ReferenceGrant": (
        ReferenceGrant,
        frozenset({"gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"}),
    ),
    "UpstreamPolicy": (UpstreamPolicy, frozenset({OWN_VERSION})),
    "RoutePolicy": (RoutePolicy, frozenset({OWN_VERSION})),
}
"""The kinds acted on, and the apiVersions in which they are read."""
_OTHER_ROUTES = frozenset({"UDPRoute"})
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


def parse_object(text: bytes, kind: str, api_version: str) -> ParsedFile:
    """An object as an API server sends it: JSON, whose kind its place tells. Bad input is in the result."""
    objects: list[Parsed] = []
    ignored: list[Key] = []
    problems: list[Problem] = []
    try:
        plain = _plain(msgspec.json.decode(text), 0, [0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _TooLargeError) as error:
        return ParsedFile(problems=(Problem(message=f"not an object: {error}"),), broken=True)
    if isinstance(plain, dict):
        plain |= {"kind": kind, "apiVersion": api_version}
    _object(plain, "", objects, ignored, problems)
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
    metadata = raw.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind, api_version, name = raw.get("kind"), raw.get("apiVersion"), metadata.get("name")
    if not _is_text(kind):
        problems.append(_nameless(where, "kind"))
    elif not _is_text(api_version):
        problems.append(_nameless(where, "apiVersion"))
    elif not _is_text(name):
        problems.append(_nameless(where, "metadata.name"))
    else:
        namespace = "" if kind == "Namespace" else str(metadata.get("namespace") or "default")
        key = Key(kind, namespace, name)
        refusal = _refusal(raw, kind, api_version)
        if refusal is not None:
            objects.append(Parsed(key, None, (refusal,)))
        elif kind in KINDS and api_version in KINDS[kind][1]:
            objects.append(_typed(raw, key, KINDS[kind][0]))
        else:
            ignored.append(key)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value)


def _nameless(where: str, field: str) -> Problem:
    return Problem(field=f"{where} {field}".strip(), message="must be set, to a string that is not empty")


def _refusal(raw: dict[str, object], kind: str, api_version: str) -> Problem | None:
    """Why an object that is meant for us cannot be read. Other kinds are none of our business."""
    group = api_version.rpartition("/")[0]
    if kind in KINDS:
        versions = KINDS[kind][1]
        if api_version not in versions and group in {version.rpartition("/")[0] for version in versions}:
            message = f"{api_version} is not supported; use {' or '.join(sorted(versions))}"
            return Problem(field="apiVersion", message=message)
    elif group == OWN_GROUP:
        return Problem(field="kind", message=f"there is no {kind} in {api_version}; it has no effect")
    elif group == GATEWAY_GROUP and kind in _OTHER_ROUTES and _has_service_parent(raw):
        return Problem(field="kind", message=f"{kind} is not supported for Services yet; it has no effect")
    return None


def _has_service_parent(raw: dict[str, object]) -> bool:
    spec = raw.get("spec")
    refs = spec.get("parentRefs") if isinstance(spec, dict) else None
    return isinstance(refs, list) and any(isinstance(r, dict) and r.get("kind") == "Service" for r in refs)


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
    if isinstance(value, RequestRoute):
        errors = tuple(route_rules.problems(value))
    elif isinstance(value, L4Route):
        errors = tuple(l4route_rules.problems(value))
    elif isinstance(value, Service):
        errors = tuple(service_problems(value))
    elif isinstance(value, Policy):
        errors = tuple(policy_problems(value))
    elif isinstance(value, EndpointSlice):
        errors = tuple(endpoint_slice_problems(value))
    bad = any(problem.severity is Severity.ERROR for problem in errors)
    return Parsed(key, None if bad else value, errors + warnings)


def _reason(message: str) -> str:
    """msgspec's reason as a part of a sentence."""
    message = message.replace("`", "")
    return message[:1].lower() + message[1:]
