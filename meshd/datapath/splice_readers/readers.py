"""Sockets that were read by splice(2) while they were in a map: ``splice_readers``, and the bell for it."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from meshd.datapath.bell import Bell, splice_place
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout


class SpliceReader(NamedTuple):
    """A socket and who read it."""

    process: int
    """Its id in the first pid namespace."""
    inode: int
    """The socket's, as in /proc/PID/fd."""


class SpliceReaders:
    """Those that nobody has seen to. Owns its bell."""

    def __init__(self, readers: Map, bells: Map, layout: Layout) -> None:
        """Takes the maps over. Raises OSError, KeyError (a layout of other programs)."""
        self._map = readers
        self._key = layout.codec("splice_reader", "process", "inode").unpack
        with contextlib.closing(bells):
            self._bell = Bell(bells.fd, splice_place(layout), layout)
        self.fd = self._bell.fd
        """Readable when there may be some; those of before it was made are told of by ``take`` alone."""

    def take(self) -> frozenset[SpliceReader]:
        """Those since the last time. One that is read so again is among the next. Raises OSError."""
        self._bell.take()
        found = list(self._map)
        for key in found:
            self._map.discard(key)
        return frozenset(SpliceReader(*self._key(key)) for key in found)

    def close(self) -> None:
        """Hear of none any more; the kernel keeps the latest for who comes next."""
        self._bell.close()
        self._map.close()
