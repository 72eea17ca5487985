"""Server-side apply: who of an object's writers owns which of its fields, kept in metadata.managedFields.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.kube_api.merging import key_of, list_key

Object = dict[str, Any]
Path = tuple[str, ...]
"""Steps as fieldsV1 has them: ``f:NAME``, ``k:{"KEY": VALUE}``, ``.``."""
Fields = dict[Path, Any]
Owner = tuple[str, str, str]
"""Manager, operation, subresource."""
_ITEM = "."
"""The step to an item itself: whoever has it keeps the item, with what defaults have put into it."""
_IDENTITY = {("f:apiVersion",), ("f:kind",)}
_SYSTEM = {
    ("f:metadata", f"f:{name}")
    for name in (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
    )
}


class ConflictError(Exception):
    """Fields have other owners; the message names both."""


def fields(value: Object) -> Fields:
    """The leaves of an object."""
    return {path: leaf for path, leaf in _leaves(value, "", ()) if path not in _IDENTITY | _SYSTEM}


def _leaves(value: Any, name: str, at: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            if (*at, f"f:{key}") not in _SYSTEM:
                yield from _leaves(inner, key, (*at, f"f:{key}"))
    elif isinstance(value, list) and (keys := list_key(name, value)):
        for item in value:
            step = _step(item, keys)
            yield (*at, step, _ITEM), None
            yield from _leaves(item, "", (*at, step))
    else:
        yield at, value


def _step(item: Object, keys: tuple[str, ...]) -> str:
    return "k:" + json.dumps(key_of(item, keys), separators=(",", ":"))


def owners(made: Object) -> dict[Owner, set[Path]]:
    """As metadata.managedFields has them."""
    return {
        (each["manager"], each["operation"], each.get("subresource", "")): set(_paths(each["fieldsV1"], ()))
        for each in made["metadata"].get("managedFields") or ()
    }


def _paths(tree: Object, at: Path) -> Iterator[Path]:
    if not tree and at:
        yield at
    for step, inner in tree.items():
        yield from _paths(inner, (*at, step))


def _write(made: Object, owned: dict[Owner, set[Path]]) -> None:
    entries = []
    for (manager, operation, subresource), paths in owned.items():
        if not paths:
            continue
        tree: Object = {}
        for path in sorted(paths):
            at = tree
            for step in path:
                at = at.setdefault(step, {})
        entries.append(
            {
                "manager": manager, "operation": operation, "apiVersion": made.get("apiVersion", ""),
                "fieldsType": "FieldsV1", "fieldsV1": tree,
            }
            | ({"subresource": subresource} if subresource else {})
        )  # fmt: skip
    made["metadata"]["managedFields"] = entries


def updated(before: Object, made: Object, manager: str, subresource: str) -> Object:
    """After a write that is no apply: who wrote owns what changed."""
    result = copy.deepcopy(made)
    held, now = fields(before), fields(made)
    changed = {path for path, value in now.items() if path not in held or held[path] != value}
    owned = {owner: (paths - changed) & now.keys() for owner, paths in owners(made).items()}
    owned.setdefault((manager, "Update", subresource), set()).update(changed)
    _write(result, owned)
    return result


def applied(before: Object, given: Object, manager: str, subresource: str, force: bool) -> Object:
    """After an apply. Raises ConflictError."""
    made = copy.deepcopy(before)
    wanted, held = fields(given), fields(before)
    owner = (manager, "Apply", subresource)
    owned = owners(before)
    last = owned.pop(owner, set())
    conflicts = {
        path: other[0]
        for other, paths in owned.items()
        for path in paths & wanted.keys()
        if held.get(path) != wanted[path]
    }
    if conflicts and not force:
        first, other = next(iter(sorted(conflicts.items())))
        where = ".".join(step.removeprefix("f:") for step in first)
        raise ConflictError(f'Apply failed with 1 conflict: conflict with "{other}": .{where}')
    owned = {other: paths - conflicts.keys() for other, paths in owned.items()}
    others = set().union(*owned.values())
    for path in sorted(last - wanted.keys() - others):  # items before what is in them
        _drop(made, path)
    for path, value in wanted.items():
        _set(made, path, value)
    owned[owner] = set(wanted)
    made |= {name: given[name] for name in ("apiVersion", "kind") if name in given}
    _write(made, owned)
    return made


def _set(made: Any, path: Path, value: Any) -> None:
    step, *rest = path
    if step.startswith("k:"):
        key = json.loads(step[2:])
        item = next((each for each in made if key_of(each, tuple(key)) == key), None)
        if item is None:
            made.append(item := dict(key))
        if rest != [_ITEM]:
            _set(item, tuple(rest), value)
        return
    name = step[2:]
    if not rest:
        made[name] = copy.deepcopy(value)
        return
    if made.get(name) is None:
        made[name] = [] if rest[0].startswith("k:") else {}
    _set(made[name], tuple(rest), value)


def _drop(made: Any, path: Path) -> None:
    """A field, and what is empty without it."""
    step, *rest = path
    if step.startswith("k:"):
        key = json.loads(step[2:])
        at: Any = next((i for i, each in enumerate(made) if key_of(each, tuple(key)) == key), None)
        if at is None:
            return
        if rest == [_ITEM]:
            rest = []
    else:
        at = step[2:]
        if at not in made:
            return
    if rest:
        _drop(made[at], tuple(rest))
    if not rest or not made[at]:
        del made[at]
