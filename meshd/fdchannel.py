"""A stream of messages and file descriptors over a Unix stream socket.

Frame: a 4-byte big-endian length, a byte with the number of file descriptors, then that many bytes of
MessagePack. The descriptors travel as SCM_RIGHTS with the frame's first byte. As one read can end a frame
and begin the next, they are dealt out by the frames' own counts, in order.
"""

from __future__ import annotations

import array
import asyncio
import collections
import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

_HEADER = struct.Struct("!IB")
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_FRAME_FDS = 16
_READ_BYTES = 256 * 1024
_MAX_QUEUED_BYTES = 256 * 1024 * 1024

M = TypeVar("M")


class ChannelError(Exception):
    """The peer ended the channel, broke the framing, or does not read."""


class FdChannel(Generic[M]):
    """One end of the stream. Owns the socket, and the received descriptors that nobody has taken yet.

    To be used from one event loop; one task receives, any may send.
    """

    def __init__(self, sock: socket.socket, decoder: msgspec.msgpack.Decoder[M]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._decoder = decoder
        self._encoder = msgspec.msgpack.Encoder()
        self._received = bytearray()
        self._received_fds: collections.deque[int] = collections.deque()
        self._queue: collections.deque[tuple[memoryview, tuple[int, ...]]] = collections.deque()
        self._queued_bytes = 0
        self._readable: asyncio.Future[None] | None = None
        self._closed = False

    async def receive(self) -> tuple[M, tuple[int, ...]]:
        """The next message and its descriptors, which the caller then owns.

        Raises ChannelError at the stream's end or for bytes that are no message.
        """
        while (frame := self._take_frame()) is None:
            await self._read()
        return frame

    async def ignore(self) -> None:
        """Wait for the end of the stream, whatever comes. Raises ChannelError then."""
        while True:
            self._received.clear()
            _close_all(self._received_fds)
            self._received_fds.clear()
            await self._read()

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Queue a message. The descriptors are duplicated: the caller keeps its own.

        Raises ChannelError when the channel is closed or the peer has not read for too many bytes.
        """
        if self._closed:
            raise ChannelError("channel is closed")
        body = self._encoder.encode(message)
        if len(body) > MAX_FRAME_BYTES or len(fds) > MAX_FRAME_FDS:
            raise ChannelError(f"message too large: {len(body)} bytes, {len(fds)} descriptors")
        if self._queued_bytes + len(body) > _MAX_QUEUED_BYTES:
            raise ChannelError(f"peer does not read: {self._queued_bytes} bytes wait for it")
        frame = memoryview(_HEADER.pack(len(body), len(fds)) + body)
        self._queue.append((frame, tuple(os.dup(fd) for fd in fds)))
        self._queued_bytes += len(frame)
        if len(self._queue) == 1:
            self._flush()

    def close(self) -> None:
        """Close the socket and every descriptor that is still in the channel's hands."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        if self._readable is not None and not self._readable.done():
            self._readable.set_exception(ChannelError("channel is closed"))
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        _close_all(self._received_fds)
        self._received_fds.clear()

    async def _read(self) -> None:
        """Take what has come, or wait until it has."""
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(
                _READ_BYTES, socket.CMSG_SPACE(4 * MAX_FRAME_FDS), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            await self._wait_readable()
            return
        except OSError as error:
            raise ChannelError(f"channel broken: {error}") from error
        for level, kind, fds in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._received_fds.extend(array.array("i", fds[: len(fds) // 4 * 4]))
        if flags & socket.MSG_CTRUNC:
            raise ChannelError("file descriptors were cut off: too many open files")
        if not data:
            raise ChannelError("peer closed the channel")
        self._received += data

    def _take_frame(self) -> tuple[M, tuple[int, ...]] | None:
        if len(self._received) < _HEADER.size:
            return None
        length, fd_count = _HEADER.unpack_from(self._received)
        if length > MAX_FRAME_BYTES or fd_count > MAX_FRAME_FDS:
            raise ChannelError(f"bad frame: {length} bytes, {fd_count} descriptors")
        end = _HEADER.size + length
        if len(self._received) < end:
            return None
        if len(self._received_fds) < fd_count:
            raise ChannelError(f"bad frame: {fd_count} descriptors promised, {len(self._received_fds)} came")
        body = bytes(self._received[_HEADER.size : end])
        del self._received[:end]
        try:
            message = self._decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ChannelError(f"bad message: {error}") from error
        return message, tuple(self._received_fds.popleft() for _ in range(fd_count))

    async def _wait_readable(self) -> None:
        if self._closed:
            raise ChannelError("channel is closed")
        self._readable = self._loop.create_future()
        self._loop.add_reader(self._sock.fileno(), self._on_readable)
        try:
            await self._readable
        finally:
            self._readable = None
            if not self._closed:
                self._loop.remove_reader(self._sock.fileno())

    def _on_readable(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _flush(self) -> None:
        try:
            while self._queue:
                frame, fds = self._queue[0]
                sent = socket.send_fds(self._sock, [frame], fds) if fds else self._sock.send(frame)
                _close_all(fds)
                self._queued_bytes -= sent
                if sent < len(frame):
                    self._queue[0] = (frame[sent:], ())
                else:
                    self._queue.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._sock.fileno(), self._flush)
            return
        except OSError:
            # The receiver sees the broken channel and says so; what was queued is lost with the peer.
            self.close()
            return
        self._loop.remove_writer(self._sock.fileno())


def _close_all(fds: collections.deque[int] | Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
