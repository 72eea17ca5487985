"""Which workloads are on this node, for ``--runtime netns``: a directory with a file for each pod.

Whoever makes the namespaces (a CNI plugin, the lab) writes ``UID.json``, a ``Workload`` as JSON, by rename,
and unlinks it when the pod goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import inotify_simple
import msgspec

from meshd import log
from meshd.model.workload import Workload
from meshd.workloads.found import Found

_logger = logging.getLogger("meshd.workloads")
_decoder = msgspec.json.Decoder(Workload)

RESYNC_SECONDS = 10.0
"""The directory is read again after that long without an event, should one have been lost."""
_EVENTS = inotify_simple.flags.MOVED_TO | inotify_simple.flags.MOVED_FROM | inotify_simple.flags.DELETE
MAX_FILE_BYTES = 1024 * 1024


def read_workloads(directory: Path) -> dict[str, Workload]:
    """The workloads by uid. A file that is no workload is logged and left out."""
    found: dict[str, Workload] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            with path.open("rb") as file:
                workload = _decoder.decode(file.read(MAX_FILE_BYTES))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.MsgspecError) as error:
            log.event(_logger, logging.ERROR, "bad workload file", file=path, reason=error)
            continue
        found[workload.uid] = workload
    return found


async def follow_folder(directory: Path) -> AsyncGenerator[Found, None]:
    """All workloads of the directory, at first and after each change. Raises OSError."""
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    with inotify_simple.INotify(nonblocking=True) as inotify:
        inotify.add_watch(str(directory), _EVENTS)

        def drain() -> None:
            inotify.read(timeout=0)
            changed.set()

        loop.add_reader(inotify.fileno(), drain)
        try:
            while True:
                changed.clear()
                yield Found(read_workloads(directory))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESYNC_SECONDS):
                        await changed.wait()
        finally:
            loop.remove_reader(inotify.fileno())
