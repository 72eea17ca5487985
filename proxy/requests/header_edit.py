"""Header modifiers: a route's edits compiled for speed, and their application to raw header fields."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.model.routes import HeaderEdit


def _wire(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Edit:
    """Several HeaderEdits, one after the other, folded into one. False where it changes nothing."""

    __slots__ = ("added", "dropped", "text_added")

    def __init__(self, edits: Iterable[HeaderEdit]) -> None:
        """Each edit removes, then sets, then adds (Envoy's HeaderParser::evaluateHeaders)."""
        dropped: set[str] = set()
        values: dict[str, list[str]] = {}
        for edit in edits:
            for name in edit.remove:
                dropped.add(name.lower())
                values.pop(name.lower(), None)
            for name, value in edit.set:
                dropped.add(name.lower())
                values[name.lower()] = [value]
            for name, value in edit.add:
                values.setdefault(name.lower(), []).append(value)
        self.text_added = tuple((name, value) for name, all_of in values.items() for value in all_of)
        self.added = tuple((_wire(name), _wire(value)) for name, value in self.text_added)
        self.dropped = frozenset(_wire(name) for name in dropped)

    def then(self, later: Edit) -> Edit:
        """The two as one, ``later`` after this one."""
        both = Edit(())
        kept = [field for field in self.text_added if _wire(field[0]) not in later.dropped]
        both.text_added = (*kept, *later.text_added)
        both.added = tuple((_wire(name), _wire(value)) for name, value in both.text_added)
        both.dropped = self.dropped | later.dropped
        return both

    def of_answer(self, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """The headers (names in lower case) of an answer of our own, after this edit."""
        kept = (field for field in headers if _wire(field[0]) not in self.dropped)
        return (*kept, *self.text_added)

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped)


NO_EDIT = Edit(())


def apply(raw: list[tuple[bytes, bytes]], edit: Edit) -> list[tuple[bytes, bytes]]:
    """The fields after ``edit``: those it drops are gone, those it adds stand at the end, in its order.

    ``raw`` is not changed; it is returned itself where the edit does nothing. Case of names does not matter.
    """
    if edit.dropped:
        dropped = edit.dropped
        raw = [field for field in raw if field[0].lower() not in dropped]
        raw.extend(edit.added)
        return raw
    if edit.added:
        return [*raw, *edit.added]
    return raw
