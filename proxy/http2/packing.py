"""Header fields in the form in which libnghttp2 takes them.

It copies them, so one place serves all sessions of a thread.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from typing import Any

from proxy.http2.events import Field
from proxy.http2.nghttp2 import ffi

_FIELDS = 64
_TEXT_BYTES = 16 * 1024
"""What most heads fit in; others get a place of their own."""


class Place:
    """An array of nghttp2_nv, and the text that it points to."""

    __slots__ = ("_address", "_array", "_text", "entries")

    def __init__(self, fields: int, text_bytes: int) -> None:
        self.entries: Any = ffi.new("nghttp2_nv[]", fields)
        self._array = ffi.buffer(self.entries)
        self._text: Any = ffi.new("uint8_t[]", text_bytes)
        self._address = int(ffi.cast("uintptr_t", self._text))

    def fill(self, fields: Sequence[Field], text: bytes) -> None:
        """Put the fields in. ``text``: all their names and values, in their order."""
        at = self._address
        numbers: list[int] = []
        for name, value in fields:
            name_size, value_size = len(name), len(value)
            numbers += (at, at + name_size, name_size, value_size, 0)
            at += name_size + value_size
        ffi.memmove(self._text, text, len(text))
        # One call for the whole array: setting its entries' attributes would take three times as long.
        struct.pack_into("@" + "PPNNQ" * len(fields), self._array, 0, *numbers)


assert ffi.sizeof("nghttp2_nv") == struct.calcsize("@PPNNQ")


class _Own(threading.local):
    """A thread's own."""

    def __init__(self) -> None:
        self.place = Place(_FIELDS, _TEXT_BYTES)


_own = _Own()


def packed(fields: Sequence[Field]) -> Place:
    """Where they are, as ``entries``: until the next call, and only as long as the place itself is kept."""
    text = b"".join([part for field in fields for part in field])
    place = _own.place
    if len(fields) > _FIELDS or len(text) > _TEXT_BYTES:
        place = Place(len(fields), len(text))
    place.fill(fields, text)
    return place
