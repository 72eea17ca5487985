"""A socket of an app leaves the kernel's maps, because the app reads by splice(2).

What waits in its queue there splice(2) does not see. So when nothing more is on its way to that queue, the
worker reads it in the app's place, takes the socket out of the map, and sends the bytes again, by TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from typing import Protocol, cast

from meshd.datapath.addresses import End
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.kernel.sock_diag import SocketQuestions
from proxy.transports.reset import reset
from proxy.transports.write_limits import WRITE_HIGH_BYTES

MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Read in the app's place at most; with more waiting the connection is reset. A flow's bound is 8 MiB, a body
and what the buffers of both sockets hold."""
_PIECE_BYTES = 8 * 1024 * 1024
_SIOCOUTQ = 0x5411  # linux/sockios.h: TIOCOUTQ


class OwnEnd(Protocol):
    """The worker's end of the connection: asyncio's protocol of it."""

    @property
    def transport(self) -> asyncio.Transport:
        """Of the connection."""

    def leave_kernel(self, now: float) -> bool:
        """Have the kernel carry nothing more on the connection, ever. Whether nothing is on its way any more.

        ``now``: by the loop's clock.
        """

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the app."""

    def eof_received(self) -> bool | None:
        """asyncio: the app has sent its last byte."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""

    def pause_writing(self) -> None:
        """asyncio: too much waits to be sent."""

    def resume_writing(self) -> None:
        """asyncio: enough of it has gone."""


class _Gate(asyncio.Protocol):
    """Stands between an end and its transport, and lets the end not hear that there is room to write."""

    def __init__(self, own: OwnEnd) -> None:
        self.own = own
        own.pause_writing()

    def data_received(self, data: bytes) -> None:
        self.own.data_received(data)

    def eof_received(self) -> bool | None:
        return self.own.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.own.connection_lost(exc)


class Departure:
    """One socket's. Owns its descriptors."""

    def __init__(
        self, sockets: Map, key: bytes, questions: SocketQuestions, app: socket.socket | None
    ) -> None:
        """``sockets``: the map that it leaves, where it has ``key``. ``app``: the socket; None: out of reach.

        Takes all three over.
        """
        self._sockets = sockets
        self._key = key
        self._questions = questions
        self._app = app
        self._taken = bytearray()
        self.taken = 0
        """Bytes that have been read in the app's place."""

    def is_done(self, own: OwnEnd, now: float) -> bool:
        """Go on with it. False: ask again soon. Raises OSError: it cannot be done."""
        transport = own.transport
        if transport.is_closing():
            return True
        if not own.leave_kernel(now):
            return False
        if self._app is None:
            reset(transport)
            return True
        gate = transport.get_protocol()
        if not isinstance(gate, _Gate) or gate.own is not own:
            transport.set_protocol(_Gate(own))
        self._take(self._app)
        if len(self._taken) > MAX_QUEUED_BYTES:
            raise OSError(f"more than {MAX_QUEUED_BYTES} bytes wait in the queue")
        mine: socket.socket = transport.get_extra_info("socket")
        local, remote = _end(mine.getpeername()), _end(mine.getsockname())
        if transport.get_write_buffer_size() or _unsent(mine) or self._questions.unread(local, remote):
            return False
        # No byte comes between here and there: all come from us, and from nobody else by the kernel.
        self._sockets.discard(self._key)
        transport.set_protocol(cast(asyncio.Protocol, own))
        if self._taken:
            try:
                transport.write(bytes(self._taken))
            except RuntimeError:  # our FIN has gone: they would come after it
                reset(transport)
                return True
        if transport.get_write_buffer_size() <= WRITE_HIGH_BYTES:
            own.resume_writing()
        return True

    def close(self) -> None:
        """Let go of the descriptors."""
        self._sockets.close()
        self._questions.close()
        if self._app is not None:
            self._app.close()

    def _take(self, app: socket.socket) -> None:
        """One call takes all that is there, so that an app that reads as well gets what is before or after.

        Whether the app's own calls block is not ours to change: it is a flag of the open socket.
        """
        with contextlib.suppress(BlockingIOError):
            while len(self._taken) <= MAX_QUEUED_BYTES and (
                piece := app.recv(_PIECE_BYTES, socket.MSG_DONTWAIT)
            ):
                self._taken += piece
        self.taken = len(self._taken)


def _end(name: tuple[str, int]) -> End:
    return name[0], name[1]


def _unsent(sock: socket.socket) -> int:
    """Bytes that its peer has not acknowledged."""
    (found,) = struct.unpack("=i", fcntl.ioctl(sock.fileno(), _SIOCOUTQ, b"\0\0\0\0"))
    return int(found)
