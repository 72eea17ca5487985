"""Takes workloads that call splice(2) on connections of the mesh off the fast path.

splice(2) does not see what is in an enrolled socket's queue: who reads by it, as Go's io.Copy between two TCP
connections does, waits for ever. The kernel tells of each such socket at its first call
(bpf/splice_reader.h). Its workload's next connections are plain ones; the socket itself is taken out of its
map by the worker that has the other end, which sends it again what waits in the queue. A connection that is
joined or spliced as a whole ends: what waits there, no worker has passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from meshd import log, netns
from meshd.agent.enrolment import Enrolment
from meshd.agent.workers import Workers
from meshd.datapath.addresses import End, address_text, packed_address
from meshd.datapath.errors import CaptureError
from meshd.datapath.flows.enrolled_sockets import Enrolled, EnrolledSockets, Side
from meshd.datapath.kernel.sock_diag import SocketQuestions
from meshd.datapath.splice_readers.app_socket import AppSocket, app_socket
from meshd.datapath.splice_readers.readers import SpliceReader, SpliceReaders
from meshd.model.wire import Unenrol
from meshd.model.workload import Workload

_logger = logging.getLogger("meshd.agent.splice")

REASON = "calls splice(2), which does not see redirected bytes"


@dataclass(frozen=True, slots=True)
class _Found:
    """An enrolled socket that was read so."""

    workload: Workload
    socket: AppSocket
    enrolled: Enrolled


class Splicers:
    """Hears of them."""

    def __init__(
        self, readers: SpliceReaders, sockets: EnrolledSockets, enrolment: Enrolment, workers: Workers
    ) -> None:
        """Takes ``readers`` and ``sockets`` over."""
        self._readers = readers
        self._sockets = sockets
        self._enrolment = enrolment
        self._workers = workers
        self._home_fd = netns.open_own()

    async def run(self) -> None:
        """Until cancelled. Begins with those that no earlier agent has seen to."""
        await self._workers.returned()
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._readers.fd, told.set)
        try:
            while True:
                told.clear()
                for each in self._readers.take():
                    try:
                        await self._see_to(each)
                    except (OSError, CaptureError) as error:
                        log.event(
                            _logger,
                            logging.WARNING,
                            "socket that is read by splice not seen to",
                            pid=each.process,
                            reason=error,
                        )
                await told.wait()
        finally:
            loop.remove_reader(self._readers.fd)

    def close(self) -> None:
        """Close the maps' fds."""
        self._readers.close()
        self._sockets.close()
        os.close(self._home_fd)

    async def _see_to(self, reader: SpliceReader) -> None:
        pods = self._enrolment.by_netns()
        found = await asyncio.to_thread(self._find, reader, pods)
        if found is None:
            return
        self._enrolment.take_off(found.workload.uid, REASON)
        if found.enrolled.side is Side.JOINED or found.enrolled.spliced:
            await asyncio.to_thread(self._end, found.socket)
        else:
            await asyncio.to_thread(self._unenrol, found)

    def _find(self, reader: SpliceReader, pods: dict[int, tuple[int, Workload]]) -> _Found | None:
        """None: it is closed, or not one of the mesh's."""
        pod = pods.get(_netns(reader.process))
        if pod is None:
            return None
        socket = app_socket(*reader)
        if socket is None:
            return None
        cookie, workload = pod
        enrolled = self._sockets.find(cookie, socket.local, socket.remote)
        return None if enrolled is None else _Found(workload, socket, enrolled)

    def _unenrol(self, found: _Found) -> None:
        with contextlib.ExitStack() as opened:
            questions = opened.enter_context(contextlib.closing(self._questions(found.socket.process)))
            fds = [self._sockets.map_fd(found.enrolled.side), questions.fd]
            try:
                fds.append(opened.enter_context(found.socket.open()).fileno())
            except ProcessLookupError:
                return
            except OSError as error:
                log.event(
                    _logger,
                    logging.WARNING,
                    "socket that is read by splice out of reach",
                    pid=found.socket.process,
                    reason=error,
                )
            self._workers.broadcast(
                Unenrol(
                    uid=found.workload.uid,
                    server=found.enrolled.side is Side.SERVER,
                    key=found.enrolled.key,
                    local=_canonical(found.socket.local),
                    remote=_canonical(found.socket.remote),
                ),
                fds,
            )

    def _end(self, socket: AppSocket) -> None:
        with contextlib.closing(self._questions(socket.process)) as questions:
            try:
                questions.destroy(socket.local, socket.remote)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise

    def _questions(self, process: int) -> SocketQuestions:
        """In the network namespace of a process."""
        fd = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.entered(fd, self._home_fd):
                return SocketQuestions()
        finally:
            os.close(fd)


def _canonical(end: End) -> End:
    return address_text(packed_address(end[0])), end[1]


def _netns(process: int) -> int:
    """The inode of a process's network namespace; 0: it is gone."""
    try:
        return Path(f"/proc/{process}/ns/net").stat().st_ino
    except OSError:
        return 0
