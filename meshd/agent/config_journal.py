"""The config in force, in a file for the next agent: a whole one, then each change. Blocking.

So to keep a change takes as long as it is large, however much config there is. A record is a length of four
bytes and a Delta in MessagePack; the first is from nothing. One that is cut off, as its agent was killed,
is of a change that was not acknowledged: it is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshd import kept_file
from meshd.model.snapshot import Delta, Snapshot

MIN_REWRITE_BYTES = 1 << 20
"""Changes take at least so much before they are folded into a whole one, and at least as much as that."""
_LENGTH = struct.Struct("=I")
_decoder = msgspec.msgpack.Decoder(Delta)


class ConfigJournal:
    """One file. Every method raises OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole = 0
        self._changes = 0
        """Bytes of the first record, and of all others."""

    def read(self) -> Snapshot | None:
        """What was in force last; None: there is no file. Raises msgspec.MsgspecError when it is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        snapshot = None
        for record in _records(content):
            snapshot = (snapshot or Snapshot()).apply(_decoder.decode(record))
        if snapshot is None:
            raise msgspec.DecodeError("no whole record")
        return snapshot

    def keep(self, change: Delta, result: Snapshot) -> None:
        """Keep a change, which led to ``result``. The first one of a process writes all of it."""
        record = _record(change)
        if not self._whole or self._changes + len(record) > max(self._whole, MIN_REWRITE_BYTES):
            record = _record(result.as_delta())
            kept_file.replace(self.path, record)
            self._whole, self._changes = len(record), 0
            return
        whole, self._whole = self._whole, 0  # nothing is added to what may be half of a record
        with self.path.open("ab") as file:
            file.write(record)
        self._whole = whole
        self._changes += len(record)


def _record(delta: Delta) -> bytes:
    packed = msgspec.msgpack.encode(delta)
    return _LENGTH.pack(len(packed)) + packed


def _records(content: bytes) -> Iterator[bytes]:
    at = 0
    while at + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        if at + length > len(content):
            return
        yield content[at : at + length]
        at += length
