"""The event loop's epoll set: a socket that is not read from is left in it by libuv until it has an event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select


class EpollSet:
    """Of uvloop, whose private ``_get_backend_id`` is pinned with its version."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll.fromfd(os.dup(loop._get_backend_id()))  # type: ignore[attr-defined]

    def drop(self, fd: int) -> None:
        """Have a paused transport's socket wake nobody. The transport adds it again when it resumes."""
        with contextlib.suppress(FileNotFoundError):
            self._epoll.unregister(fd)
