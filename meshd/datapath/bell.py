"""A ring buffer that the programs tell a process by: of connections that need a worker (bpf/bell.h), of bad
answers for the agent (bpf/judged.h).

Layout: kernel documentation, "BPF ring buffer"; records and their header as in linux/bpf.h (BPF_RINGBUF_*).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct

from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout

_HEADER_BYTES = 8
_BUSY, _DISCARD = 1 << 31, 1 << 30
_SLOT, _FD = struct.Struct("=I"), struct.Struct("=I")


class Bell:
    """Owns its ring buffer; ``fd`` is readable when something is in it. One reader."""

    def __init__(self, bells: int, place: int, layout: Layout) -> None:
        """Hang a bell where the kernel rings it.

        ``place``: a worker's index on the node, or that of ``agent_place``. ``bells``: an fd of that map,
        which stays the caller's. Raises OSError, KeyError (a layout of other programs).
        """
        shape = layout.maps["bell"]
        self.fd = bpf.create_map(
            "bell", shape.type, shape.key_size, shape.value_size, shape.max_entries, shape.flags, 0, 0, btf=0
        )
        try:
            page = mmap.PAGESIZE
            self._mask = shape.max_entries - 1
            # The consumer's position; then the producer's, and the data, which is mapped twice in a row.
            self._own = mmap.mmap(self.fd, page)
            self._kernels = mmap.mmap(self.fd, page + 2 * shape.max_entries, prot=mmap.PROT_READ, offset=page)
            with contextlib.closing(Map(os.dup(bells))) as hung:
                hung[_SLOT.pack(place)] = _FD.pack(self.fd)
        except BaseException:
            os.close(self.fd)
            raise
        self._consumed = memoryview(self._own).cast("Q")
        self._produced = memoryview(self._kernels)[:8].cast("Q")
        self._data = memoryview(self._kernels)[page:]
        self._words = self._data.cast("I")

    def take(self) -> list[bytes]:
        """What it was rung with since the last time."""
        found = []
        at, end = self._consumed[0], self._produced[0]
        while at < end:
            start = at & self._mask
            header = self._words[start // 4]
            if header & _BUSY:
                break  # it is being written; the kernel tells when it is done
            length = header & ~_DISCARD
            if not header & _DISCARD:
                found.append(bytes(self._data[start + _HEADER_BYTES : start + _HEADER_BYTES + length]))
            at += (_HEADER_BYTES + length + 7) & ~7
            self._consumed[0] = at
        return found

    def close(self) -> None:
        """Let go of the ring buffer; the kernel keeps it until another one hangs there."""
        for view in (self._consumed, self._produced, self._words, self._data):
            view.release()
        self._own.close()
        self._kernels.close()
        os.close(self.fd)


def agent_place(layout: Layout) -> int:
    """The agent's place, after those of the workers (AGENT_BELL)."""
    return layout.maps["bells"].max_entries - 2


def splice_place(layout: Layout) -> int:
    """And where it is told that sockets are read by splice(2) (SPLICE_BELL)."""
    return layout.maps["bells"].max_entries - 1
