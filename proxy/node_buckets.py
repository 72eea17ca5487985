"""Token buckets that all workers of a node share: a table in a file that each of them maps.

No process keeps it: a set of entries is guarded by a lock on its byte range, which the kernel takes from
who dies with it (open file description locks, fcntl(2), Linux 3.15), and a full bucket's entry is used again.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from pathlib import Path

from proxy.filters.token_bucket import Rate, take

FILE_NAME = "rate-limits.1"
"""In the run directory. The number is the format's: workers of two versions may run side by side."""
_SETS, _WAYS = 2048, 8
MAX_BUCKETS = _SETS * _WAYS
"""On a node. Beyond them, of eight, the one nearest to full gives way; a full one loses nothing by it."""
PATIENCE_SECONDS = 0.002
"""How long a set is waited for. Who has it needs microseconds, unless it is stopped within them."""

_SET = struct.Struct("=" + "8sq" * _WAYS)
_ENTRY = struct.Struct("=8sq")  # a bucket's name, and when it is full
_LOCK = struct.Struct("hhqqi4x")  # struct flock
_SIZE = _SETS * _SET.size


class NodeBuckets:
    """The table, as one process has it. Owns its file descriptor and its mapping."""

    def __init__(self, path: Path | None = None, patience: float = PATIENCE_SECONDS) -> None:
        """``path``: made where it is not; None: a table of this process alone. Raises OSError."""
        if path is None:
            self._fd = os.memfd_create("rate-limits", os.MFD_CLOEXEC)
        else:
            # Opened anew, not inherited: a lock belongs to the open file description.
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.ftruncate(self._fd, _SIZE)
            self._table = mmap.mmap(self._fd, _SIZE)
        except OSError:
            os.close(self._fd)
            raise
        self._patience = round(patience * 1e9)
        self.displaced = 0
        """Buckets that gave way although they were not full: the table is too small."""
        self.unguarded = 0
        """Tokens that were taken without the lock, as who had it did not give it back in time."""

    def take(self, name: bytes, rate: Rate) -> bool:
        """Take a token from the bucket of that name, of 8 bytes that are as good as random."""
        at = int.from_bytes(name, "little") % _SETS * _SET.size
        guarded = self._lock(at)
        try:
            return self._take(at, name, rate, time.monotonic_ns())
        finally:
            if guarded:
                self._set_lock(fcntl.F_UNLCK, at)

    def close(self) -> None:
        """Close what it owns. The table lives on while another process has it."""
        self._table.close()
        os.close(self._fd)

    def _take(self, at: int, name: bytes, rate: Rate, now: int) -> bool:
        entries = _SET.unpack_from(self._table, at)
        names, full_at = entries[::2], entries[1::2]
        if name in names:
            way = names.index(name)
            left = take(rate, full_at[way], now)
        else:
            way = full_at.index(min(full_at))
            self.displaced += full_at[way] > now
            left = take(rate, 0, now)
        if left is None:
            return False
        _ENTRY.pack_into(self._table, at + way * _ENTRY.size, name, left)
        return True

    def _lock(self, at: int) -> bool:
        """False: it cannot be had. A race then costs a token at most, and a wait would cost all requests."""
        if self._set_lock(fcntl.F_WRLCK, at):
            return True
        give_up = time.monotonic_ns() + self._patience
        while time.monotonic_ns() < give_up:
            os.sched_yield()
            if self._set_lock(fcntl.F_WRLCK, at):
                return True
        self.unguarded += 1
        return False

    def _set_lock(self, kind: int, at: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, at, _SET.size, 0))
        except BlockingIOError:
            return False
        return True
