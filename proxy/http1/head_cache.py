"""Parsed heads, by their bytes. A client that polls and a server that answers it repeat themselves."""

from __future__ import annotations

from typing import Generic, TypeVar

MAX_HEADS = 512
MAX_HEAD_BYTES = 1024
"""Longer heads seldom repeat, and the cache is to stay small: at most 2 MB or so with what is parsed."""

T = TypeVar("T")


class HeadCache(Generic[T]):
    """A bounded dictionary; when it is full it begins anew, as whatever repeats is back at once."""

    __slots__ = ("_heads", "get")

    def __init__(self) -> None:
        self._heads: dict[bytes, T] = {}
        self.get = self._heads.get
        """The value of these bytes, or None."""

    def put(self, head: bytes, value: T) -> None:
        """Keep a value, which must not change from now on."""
        if len(head) <= MAX_HEAD_BYTES:
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[head] = value
