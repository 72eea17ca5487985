"""Which objects a list or a watch is about: labelSelector and fieldSelector."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Object = dict[str, Any]
Matches = Callable[[Object], bool]
_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_PARTS = re.compile(r",(?![^(]*\))")
_COMPARED = re.compile(r"([^=!]+)(==|=|!=)(.*)")


def matcher(query: Mapping[str, str]) -> Matches:
    """For a request's query."""
    labels = [_label(part) for part in _split(query.get("labelSelector", ""))]
    fields = [_field(part) for part in _split(query.get("fieldSelector", ""))]
    return lambda made: all(holds(made) for holds in (*labels, *fields))


def _split(selector: str) -> list[str]:
    return [part.strip() for part in _PARTS.split(selector) if part.strip()]


def _label(part: str) -> Matches:
    def of(made: Object) -> Mapping[str, str]:
        found: Mapping[str, str] = made["metadata"].get("labels") or {}
        return found

    if found := _SET.fullmatch(part):
        key, wanted = found[1], found[2] == "in"
        values = {each.strip() for each in found[3].split(",")}
        return lambda made: (of(made).get(key) in values) is wanted
    if found := _COMPARED.fullmatch(part):
        key, value, same = found[1].strip(), found[3].strip(), found[2] != "!="
        return lambda made: (of(made).get(key) == value) is same
    if part.startswith("!"):
        return lambda made: part[1:] not in of(made)
    return lambda made: part in of(made)


def _field(part: str) -> Matches:
    found = _COMPARED.fullmatch(part)
    assert found, part
    path, value, same = found[1].strip().split("."), found[3].strip(), found[2] != "!="

    def holds(made: Object) -> bool:
        at: Any = made
        for name in path:
            at = at.get(name, {}) if isinstance(at, dict) else {}
        return ((at or "") == value) is same

    return holds
