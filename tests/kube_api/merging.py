"""What a patch makes of an object: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md
"""

from __future__ import annotations

import copy
from typing import Any

Object = dict[str, Any]
_KEYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "conditions": (("type",),),
    "containers": (("name",),),
    "env": (("name",),),
    "imagePullSecrets": (("name",),),
    "initContainers": (("name",),),
    "ownerReferences": (("uid",),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumeMounts": (("mountPath",),),
    "volumes": (("name",),),
}
"""By which of its fields items of a list are known, by the name of the list (patchMergeKey is the first)."""
_DEFAULTS = {"protocol": "TCP"}


def list_key(name: str, items: list[Any]) -> tuple[str, ...] | None:
    """The fields by which its items are told apart; None: the list is one value."""
    for keys in _KEYS.get(name, ()):
        if items and all(isinstance(each, dict) and keys[0] in each for each in items):
            return keys
    return None


def key_of(item: Object, keys: tuple[str, ...]) -> Object:
    """What tells an item apart."""
    return {key: item.get(key, _DEFAULTS.get(key)) for key in keys}


def json_merge(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    made = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = json_merge(made.get(name), value)
    return made


def json_patch(target: Object, operations: list[Object]) -> Object:
    """RFC 6902 without move and copy. Raises LookupError, ValueError."""
    made: Any = copy.deepcopy(target)
    for each in operations:
        *way, last = [_unescaped(part) for part in each["path"].split("/")[1:]]
        at = made
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        here: Any = last if isinstance(at, dict) else len(at) if last == "-" else int(last)
        match each["op"]:
            case "add" if isinstance(at, list):
                at.insert(here, each["value"])
            case "add":
                at[here] = each["value"]
            case "replace":
                at[here]  # it has to be there
                at[here] = each["value"]
            case "remove":
                del at[here]
            case "test":
                if at[here] != each["value"]:
                    raise ValueError(f"{each['path']} is not {each['value']!r}")
            case other:
                raise ValueError(f"there is no operation {other}")
    return dict(made)


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def strategic_merge(target: Any, patch: Object) -> Object:
    """As json_merge, with lists of items that have keys merged by them."""
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    made = dict(target) if isinstance(target, dict) else {}
    if (kept := patch.get("$retainKeys")) is not None:
        made = {name: value for name, value in made.items() if name in kept}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            where = name.partition("/")[2]
            made[where] = [each for each in made.get(where, []) if each not in value]
        elif name.startswith("$"):
            continue
        elif value is None:
            made.pop(name, None)
        elif isinstance(value, list):
            made[name] = _merged_list(made.get(name) or [], value, name)
        elif isinstance(value, dict):
            made[name] = strategic_merge(made.get(name), value)
        else:
            made[name] = value
    for name, order in patch.items():
        if name.startswith("$setElementOrder/"):
            where = name.partition("/")[2]
            made[where] = _ordered(made.get(where) or [], order, where)
    return made


def _merged_list(target: list[Any], patch: list[Any], name: str) -> list[Any]:
    keys = list_key(name, [*target, *patch])
    if keys is None:
        return patch
    key, made = keys[0], list(target)
    for item in patch:
        at = next((i for i, each in enumerate(made) if each[key] == item[key]), None)
        if item.get("$patch") == "delete":
            if at is not None:
                del made[at]
        elif at is None:
            made.append(strategic_merge({}, item))
        else:
            made[at] = strategic_merge(made[at], item)
    return made


def _ordered(items: list[Any], order: list[Any], name: str) -> list[Any]:
    keys = list_key(name, items)
    wanted = [each[keys[0]] for each in order] if keys else order

    def place(item: Any) -> int:
        value = item[keys[0]] if keys else item
        return wanted.index(value) if value in wanted else len(wanted)

    return sorted(items, key=place)
