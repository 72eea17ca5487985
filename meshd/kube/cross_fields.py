"""Rules over several fields of one object, each written once: as CEL for the CRD, and as a check of ours.

CEL is what an API server runs (KEP-2876); the check is for objects that come from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from meshd.kube.duration import seconds
from meshd.model.status import Problem


@dataclass(frozen=True, slots=True)
class CrossRule:
    """What must hold of an object."""

    message: str
    cel: str
    """``self`` is the object; its defaults have been filled in."""
    holds: Callable[[Any], bool]
    field: str = ""
    """Where it is told of, in Python's spelling; empty: of the object as a whole."""

    @property
    def api_field(self) -> str:
        """``field`` as the API has it."""
        return camel(self.field)


def camel(name: str) -> str:
    """A field's name as the API has it."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _given(value: Any, field: str) -> bool:
    return getattr(value, field) is not None


def _has(field: str) -> str:
    return f"has(self.{camel(field)})"


def _count(fields: tuple[str, ...]) -> str:
    return " + ".join(f"({_has(field)} ? 1 : 0)" for field in fields)


def _names(fields: tuple[str, ...]) -> str:
    return ", ".join(camel(field) for field in fields)


def exactly_one(*fields: str) -> CrossRule:
    """One of them is set."""
    return CrossRule(
        f"exactly one of {_names(fields)} must be set",
        f"{_count(fields)} == 1",
        lambda value: sum(_given(value, field) for field in fields) == 1,
    )


def at_most_one(*fields: str) -> CrossRule:
    """Not two of them are set."""
    return CrossRule(
        f"at most one of {_names(fields)} may be set",
        f"{_count(fields)} <= 1",
        lambda value: sum(_given(value, field) for field in fields) <= 1,
    )


def at_least_one(*fields: str) -> CrossRule:
    """Some of them is set."""
    return CrossRule(
        f"at least one of {_names(fields)} must be set",
        f"{_count(fields)} >= 1",
        lambda value: any(_given(value, field) for field in fields),
    )


def only_for(field: str, kind: str, *values: str) -> CrossRule:
    """It may be set only where the field ``kind`` is one of some values."""
    allowed = " or ".join(values)
    return CrossRule(
        f"may only be set with {camel(kind)} {allowed}",
        f"!{_has(field)} || self.{camel(kind)} in {list(values)}",
        lambda value: not _given(value, field) or getattr(value, kind) in values,
        field,
    )


def needed_for(field: str, kind: str, *values: str) -> CrossRule:
    """It must be set where the field ``kind`` is one of some values."""
    return CrossRule(
        f"must be set with {camel(kind)} {' or '.join(values)}",
        f"{_has(field)} || !(self.{camel(kind)} in {list(values)})",
        lambda value: _given(value, field) or getattr(value, kind) not in values,
        field,
    )


def not_with(field: str, other: str) -> CrossRule:
    """It may not be set where another is."""
    return CrossRule(
        f"may not be set together with {camel(other)}",
        f"!({_has(field)} && {_has(other)})",
        lambda value: not (_given(value, field) and _given(value, other)),
        field,
    )


def not_more(small: str, large: str) -> CrossRule:
    """A number is not more than another, where that is set."""
    return CrossRule(
        f"must not be more than {camel(large)}",
        f"!{_has(large)} || self.{camel(small)} <= self.{camel(large)}",
        lambda value: not _given(value, large) or getattr(value, small) <= getattr(value, large),
        small,
    )


def lasts(field: str, least: str) -> CrossRule:
    """A duration, where it is set, is not shorter than another."""
    return CrossRule(
        f"must not be less than {least}",
        f"!{_has(field)} || duration(self.{camel(field)}) >= duration('{least}')",
        lambda value: not _given(value, field) or seconds(getattr(value, field)) >= seconds(least),
        field,
    )


def distinct(field: str) -> CrossRule:
    """No two items of a list are equal."""
    items = f"self.{camel(field)}"
    return CrossRule(
        "must not name one twice",
        f"!{_has(field)} || {items}.all(a, {items}.exists_one(b, b == a))",
        lambda value: len(set(getattr(value, field))) == len(getattr(value, field)),
        field,
    )


def problems(value: object, where: str) -> Iterator[Problem]:
    """The rules that an object, or one in it, breaks: those in the class variable RULES of their structs."""
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from problems(item, f"{where}[{i}]")
    elif isinstance(value, msgspec.Struct):
        rules: tuple[CrossRule, ...] = getattr(type(value), "RULES", ())
        for rule in rules:
            if not rule.holds(value):
                field = f"{where}.{rule.api_field}" if rule.field else where
                yield Problem(field=field, message=rule.message)
        for name, inner in msgspec.structs.asdict(value).items():
            yield from problems(inner, f"{where}.{camel(name)}")
