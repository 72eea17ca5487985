"""An immutable mapping, of which the next version shares with this one whatever has not changed. Pure."""

from __future__ import annotations

from collections.abc import Hashable, ItemsView, Iterable, Iterator, Mapping, ValuesView
from itertools import chain, compress, filterfalse
from operator import is_not
from typing import Any, TypeVar, overload

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
_D = TypeVar("_D")

_PARTS = 256
"""To make a version, or to compare two, takes this list and the entries in the parts that differ: next to
nothing with a few thousand entries, some microseconds with a hundred thousand."""

_NOTHING: dict[Any, Any] = {}
"""A part without entries. A part is never changed where it is: it is copied first."""


class SharedMap(Mapping[_K, _V]):
    """Made of dictionaries; the hash of a key says in which of them it is. So there is no order.

    Where a version were a copy of one dictionary, each would take time by the number of all entries. What
    libraries have of the kind (immutables, pyrsistent) tells two versions apart by looking at all of them.
    """

    __slots__ = ("_count", "_parts")

    def __init__(self, entries: Mapping[_K, _V] | None = None) -> None:
        self._parts: list[dict[_K, _V]] = [_NOTHING] * _PARTS
        self._count = 0
        if entries:
            parts = self._parts
            for key, value in entries.items():
                number = hash(key) % _PARTS
                if parts[number] is _NOTHING:
                    parts[number] = {}
                parts[number][key] = value
            self._count = len(entries)

    @classmethod
    def of(cls, entries: Mapping[_K, _V] | None) -> SharedMap[_K, _V]:
        """These entries; what is one already is shared."""
        return entries if isinstance(entries, SharedMap) else cls(entries)

    def changed(self, put: Mapping[_K, _V], removed: Iterable[_K] = ()) -> SharedMap[_K, _V]:
        """The version in which ``put`` is there, and ``removed`` is gone, what of it there was.

        Where that is nothing, it is this very one.
        """
        draft = Draft(self)
        for key, value in put.items():
            draft[key] = value
        for key in removed:
            draft.pop(key, None)
        return draft.done()

    def others(self, after: SharedMap[_K, _V]) -> Iterator[_K]:
        """The keys of what is new, gone or another object in a later version. Equal objects may be others."""
        for old, new in self._other_parts(after):
            yield from compress(new, map(is_not, map(old.get, new), new.values()))
            yield from filterfalse(new.__contains__, old)

    def _other_parts(self, after: SharedMap[_K, _V]) -> Iterator[tuple[dict[_K, _V], dict[_K, _V]]]:
        if self is after:
            return iter(())
        pairs = zip(self._parts, after._parts, strict=True)
        return compress(pairs, map(is_not, self._parts, after._parts))

    # -- as of any mapping ---------------------------------------------------------------------------

    def __getitem__(self, key: _K) -> _V:
        return self._parts[hash(key) % _PARTS][key]

    @overload
    def get(self, key: _K, /) -> _V | None: ...

    @overload
    def get(self, key: _K, /, default: _V | _D) -> _V | _D: ...

    def get(self, key: _K, /, default: _V | _D | None = None) -> _V | _D | None:
        """The value, or else the default."""
        return self._parts[hash(key) % _PARTS].get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._parts[hash(key) % _PARTS]

    def __iter__(self) -> Iterator[_K]:
        return chain.from_iterable(self._parts)

    def __len__(self) -> int:
        return self._count

    def items(self) -> ItemsView[_K, _V]:
        """The entries."""
        return _Items(self)

    def values(self) -> ValuesView[_V]:
        """Their values."""
        return _Values(self)

    def __repr__(self) -> str:
        return f"SharedMap({dict(self.items())!r})"


class Draft(SharedMap[_K, _V]):
    """The next version of a map, in the making: it can be written to. It ends with ``done``."""

    __slots__ = ("_base", "_own")

    def __init__(self, base: SharedMap[_K, _V]) -> None:
        self._base = base
        self._parts, self._count = base._parts.copy(), base._count
        self._own: set[int] = set()
        """The parts that are copies."""

    def __setitem__(self, key: _K, value: _V) -> None:
        part = self._part_of(key)
        self._count += key not in part
        part[key] = value

    def __delitem__(self, key: _K) -> None:
        del self._part_of(key)[key]
        self._count -= 1

    def pop(self, key: _K, default: _D) -> _V | _D:
        """Remove an entry. Returns its value, or else the default."""
        if key not in self:
            return default
        value = self._part_of(key).pop(key)
        self._count -= 1
        return value

    def done(self) -> SharedMap[_K, _V]:
        """The version. The draft is not to be used any more. Where nothing was written, the one before."""
        if not self._own:
            return self._base
        result: SharedMap[_K, _V] = SharedMap()
        result._parts, result._count = self._parts, self._count
        self._parts = []
        return result

    def _part_of(self, key: _K) -> dict[_K, _V]:
        number = hash(key) % _PARTS
        if number not in self._own:
            self._own.add(number)
            self._parts[number] = self._parts[number].copy()
        return self._parts[number]


class _Items(ItemsView[_K, _V]):
    _mapping: SharedMap[_K, _V]

    def __iter__(self) -> Iterator[tuple[_K, _V]]:
        return chain.from_iterable(map(dict.items, filter(None, self._mapping._parts)))


class _Values(ValuesView[_V]):
    _mapping: SharedMap[object, _V]

    def __iter__(self) -> Iterator[_V]:
        return chain.from_iterable(map(dict.values, filter(None, self._mapping._parts)))
