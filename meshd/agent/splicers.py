"""Takes workloads that call splice(2) on connections of the mesh off the fast path.

splice(2) does not see what is in an enrolled socket's queue: who reads by it, as Go's io.Copy between two TCP
connections does, waits for ever. To see who calls it costs all system calls of the node a little, so it is
done by short glances.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from meshd import log
from meshd.agent.enrolment import Enrolment
from meshd.agent.tcp_sockets import tcp_sockets
from meshd.datapath.errors import CaptureError, DatapathError
from meshd.datapath.flows.captured_sockets import CapturedSockets
from meshd.datapath.splicing import watch as splice_watch
from meshd.datapath.splicing.watch import SpliceWatch
from meshd.model.workload import Workload

_logger = logging.getLogger("meshd.agent.splice")

GLANCE_SECONDS = 0.2
PAUSE_SECONDS = 4.0
FIRST_LOOK_SECONDS = 0.5
MAX_PROCESSES = 64
"""Looked at after one glance; the rest will call again."""
REASON = "calls splice(2), which does not see redirected bytes"


class Splicers:
    """Looks for them. ``state``: ``on``, or why calls are not seen."""

    def __init__(self, sockets: CapturedSockets, enrolment: Enrolment, enrolled: Callable[[], int]) -> None:
        """Takes ``sockets`` over. ``enrolled``: how many connections are open that it may be about."""
        self._sockets = sockets
        self._enrolment = enrolment
        self._enrolled = enrolled
        self.state = "waits for a connection"

    async def run(self) -> None:
        """Until cancelled, or until it is known that this kernel does not show the calls."""
        # An agent that starts has enough to compile.
        while True:
            if self._enrolled():
                break
            await asyncio.sleep(FIRST_LOOK_SECONDS)
        try:
            watch = await asyncio.to_thread(splice_watch.load)
        except DatapathError as error:
            self.state = f"off: {error}"
            log.event(_logger, logging.WARNING, "calls of splice are not seen", reason=error)
            return
        self.state = "on"
        try:
            while True:
                try:
                    if self._enrolled():
                        await self._glance(watch)
                except (OSError, CaptureError) as error:
                    log.event(_logger, logging.WARNING, "glance at splice failed", reason=error)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            watch.close()

    def close(self) -> None:
        """Close the maps' fds."""
        self._sockets.close()

    async def _glance(self, watch: SpliceWatch) -> None:
        callers = await asyncio.to_thread(_callers, watch)
        for uid in await asyncio.to_thread(self._splicing, callers, self._enrolment.by_netns()):
            self._enrolment.take_off(uid, REASON)

    def _splicing(self, processes: Iterable[int], pods: Mapping[int, tuple[int, Workload]]) -> list[str]:
        """The uids of the workloads that have one of these processes, and that with a socket of the mesh."""
        found: dict[str, None] = {}
        for process in sorted(processes)[:MAX_PROCESSES]:
            pod = pods.get(_netns(process))
            if pod is None or pod[1].uid in found:
                continue
            cookie, workload = pod
            if any(self._sockets.has(cookie, *each) for each in tcp_sockets(process)):
                found[workload.uid] = None
        return list(found)


def _callers(watch: SpliceWatch) -> frozenset[int]:
    with watch.on():
        time.sleep(GLANCE_SECONDS)
    return watch.take()


def _netns(process: int) -> int:
    """The inode of a process's network namespace; 0: it is gone."""
    try:
        return Path(f"/proc/{process}/ns/net").stat().st_ino
    except OSError:
        return 0
