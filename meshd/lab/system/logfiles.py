"""Keeps the lab's log files from growing without bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024
_KEPT_BYTES = 1024 * 1024
_PERIOD = 2.0


async def keep_bounded(folder: Path) -> None:
    """Watch all ``*.log`` files below a folder until cancelled."""
    while True:
        for path in folder.rglob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > MAX_BYTES:
                    cut(path)
        await asyncio.sleep(_PERIOD)


def cut(path: Path) -> None:
    """Leave only the end of a log file, from a line's beginning on.

    It stays the same file: processes that append to it go on. What they write meanwhile may be lost.
    """
    with path.open("rb+", buffering=0) as file:
        file.seek(-_KEPT_BYTES, os.SEEK_END)
        tail = file.read(_KEPT_BYTES)
        tail = tail[tail.find(b"\n") + 1 :]
        file.seek(0)
        file.write(tail)
        file.truncate()
