"""Writes to an API server as requests ask for them: create, replace, patch, apply, delete. No I/O."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from meshd.kube_api.resource import Resource
from tests.kube_api import merging, ownership
from tests.kube_api.kinds import CLUSTER_SCOPED, has_status, is_custom
from tests.kube_api.store import Key, Object, Store

APPLY = "application/apply-patch+yaml"
_JSON, _MERGE, _STRATEGIC = (
    f"application/{kind}+json" for kind in ("json-patch", "merge-patch", "strategic-merge-patch")
)
_DELETED_IS_ANSWER = ("pods", "serviceaccounts", "services")
"""Kinds whose deletion is answered with what they were, and not with a Status (ReturnDeletedObject)."""


class RefusedError(Exception):
    """What is asked for cannot be done: HTTP status, reason, message."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Asked(NamedTuple):
    """A write."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    query: Mapping[str, str]
    content_type: str
    body: bytes

    @property
    def key(self) -> Key:
        """Which object it is about."""
        return self.resource.plural, self.namespace, self.name

    @property
    def manager(self) -> str:
        """Who writes."""
        return self.query.get("fieldManager") or "unknown"

    def given(self) -> Any:
        """The body. Raises RefusedError."""
        try:
            return yaml.safe_load(self.body) if self.content_type == APPLY else json.loads(self.body or b"{}")
        except (ValueError, yaml.YAMLError) as error:
            raise RefusedError(400, "BadRequest", f"the body cannot be read: {error}") from None


def create(store: Store, asked: Asked) -> Object:
    """POST. Raises RefusedError."""
    made = _located(asked, asked.given())
    if not made["metadata"].get("name") and (prefix := made["metadata"].get("generateName")):
        made["metadata"]["name"] = f"{prefix}{store.version:05x}"
    if not made["metadata"].get("name"):
        raise RefusedError(422, "Invalid", "metadata.name: Required value: name or generateName is required")
    asked = asked._replace(name=made["metadata"]["name"])
    if asked.key in store.objects:
        raise RefusedError(409, "AlreadyExists", f'{asked.resource.plural} "{asked.name}" already exists')
    _admit(store, asked)
    if has_status(asked.resource):
        made.pop("status", None)
    made = ownership.updated({"metadata": {}}, made, asked.manager, "")
    return _put(store, asked, None, made)


def replace(store: Store, asked: Asked) -> Object:
    """PUT. Raises RefusedError."""
    held = _held(store, asked)
    given = _located(asked, asked.given())
    _same_version(asked, held, given)
    given["metadata"] |= _owners(held)
    made = ownership.updated(held, _own_part(asked, held, given), asked.manager, asked.subresource)
    return _put(store, asked, held, made)


def patch(store: Store, asked: Asked) -> tuple[Object, bool]:
    """PATCH; the object, and whether it is new. Raises RefusedError."""
    if asked.content_type == APPLY:
        return _apply(store, asked)
    held, given = _held(store, asked), asked.given()
    if asked.content_type == _JSON:
        try:
            made = merging.json_patch(held, given)
        except (LookupError, ValueError, TypeError) as error:
            raise RefusedError(422, "Invalid", f"the patch does not fit: {error}") from None
    elif asked.content_type == _MERGE:
        made = merging.json_merge(held, given)
    elif asked.content_type == _STRATEGIC and not is_custom(asked.resource):
        made = merging.strategic_merge(held, given)
    else:
        raise RefusedError(415, "UnsupportedMediaType", f"no patch of {asked.content_type} for this kind")
    _same_version(asked, held, made)
    made = ownership.updated(held, _own_part(asked, held, made), asked.manager, asked.subresource)
    return _put(store, asked, held, made), False


def _apply(store: Store, asked: Asked) -> tuple[Object, bool]:
    if not asked.query.get("fieldManager"):
        raise RefusedError(400, "BadRequest", "fieldManager is required for apply patch")
    given = _located(asked, asked.given())
    held = store.objects.get(asked.key)
    if held is None:
        _admit(store, asked)
    before = held or {"metadata": {"name": asked.name} | _place(asked)}
    force = asked.query.get("force") == "true"
    try:
        made = ownership.applied(before, given, asked.manager, asked.subresource, force)
    except ownership.ConflictError as error:
        raise RefusedError(409, "Conflict", str(error)) from None
    return _put(store, asked, held, _own_part(asked, before, made)), held is None


def delete(store: Store, asked: Asked) -> Object | None:
    """DELETE; the object where it is answered with, or is left for its finalizers. Raises RefusedError."""
    held = _held(store, asked)
    _preconditions(held, asked.given().get("preconditions") or {})
    if asked.query.get("dryRun"):
        return held
    if held["metadata"].get("finalizers"):
        made = copy.deepcopy(held)
        made["metadata"]["deletionTimestamp"] = held["metadata"]["creationTimestamp"]
        return store.write(asked.resource.plural, made)
    if asked.resource.plural == "namespaces":
        for key in [key for key in store.objects if key[1] == asked.name]:
            store.remove(key)
    gone = store.remove(asked.key)
    return gone if asked.resource.plural in _DELETED_IS_ANSWER else None


def _preconditions(held: Object, asked: Mapping[str, str]) -> None:
    for name in ("uid", "resourceVersion"):
        if asked.get(name) and asked[name] != held["metadata"][name]:
            raise RefusedError(409, "Conflict", f"precondition failed: {name}")


def _held(store: Store, asked: Asked) -> Object:
    held = store.objects.get(asked.key)
    if held is None:
        raise RefusedError(404, "NotFound", f'{asked.resource.plural} "{asked.name}" not found')
    return held


def _located(asked: Asked, given: Object) -> Object:
    """The object with the place that the path names."""
    metadata = dict(given.get("metadata") or {})
    if metadata.get("namespace", asked.namespace) != asked.namespace:
        raise RefusedError(400, "BadRequest", "the namespace of the object is not that of the path")
    metadata |= _place(asked)
    if asked.name:
        metadata["name"] = asked.name
    return {
        **{name: value for name, value in given.items() if name not in ("kind", "apiVersion")},
        "metadata": metadata,
    }


def _place(asked: Asked) -> Object:
    return {} if asked.resource.plural in CLUSTER_SCOPED else {"namespace": asked.namespace}


def _admit(store: Store, asked: Asked) -> None:
    """As the admission plug-in NamespaceLifecycle."""
    if asked.namespace and ("namespaces", "", asked.namespace) not in store.objects:
        raise RefusedError(404, "NotFound", f'namespaces "{asked.namespace}" not found')


def _same_version(asked: Asked, held: Object, made: Object) -> None:
    version = made["metadata"].get("resourceVersion")
    if version and version != held["metadata"]["resourceVersion"]:
        raise RefusedError(
            409, "Conflict",
            f'Operation cannot be fulfilled on {asked.resource.plural} "{asked.name}": '
            "the object has been modified; please apply your changes to the latest version and try again",
        )  # fmt: skip


def _own_part(asked: Asked, held: Object, made: Object) -> Object:
    """The object with what this way of writing may change: the status only, or all else."""
    if asked.subresource == "status":
        taken = {**held, "metadata": held["metadata"] | _owners(made)}
        return {**taken, "status": made["status"]} if "status" in made else taken
    if not has_status(asked.resource):
        return made
    rest = {name: value for name, value in made.items() if name != "status"}
    return {**rest, **({"status": held["status"]} if "status" in held else {})}


def _owners(made: Object) -> Object:
    name = "managedFields"
    return {name: made["metadata"][name]} if name in made["metadata"] else {}


def _put(store: Store, asked: Asked, held: Object | None, made: Object) -> Object:
    if held is not None and _content(held) == _content(made):
        return held  # nothing has changed, so no event
    metadata = made["metadata"]
    generation = (
        1 if held is None else held["metadata"].get("generation", 1) + (held.get("spec") != made.get("spec"))
    )
    metadata["generation"] = generation
    if asked.query.get("dryRun"):
        return made
    metadata = made["metadata"]
    if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
        return store.remove(asked.key)
    return store.write(asked.resource.plural, made)


def _content(made: Object) -> Object:
    metadata = {name: value for name, value in made["metadata"].items() if name != "resourceVersion"}
    return {**_untyped(made), "metadata": metadata}


def _untyped(made: Object) -> Object:
    """As it is stored: which kind it is of says where."""
    return {name: value for name, value in made.items() if name not in ("kind", "apiVersion")}
