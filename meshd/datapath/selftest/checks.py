"""The checks of the self-test: each on sockets of its own, C to S and back as the fast path carries requests.

Each raises CheckFailedError, or an OSError that is as good a reason.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from meshd.datapath.selftest.sockets import (
    Circuit,
    expect,
    expect_bytes,
    expect_end,
    expect_readable,
    expect_wake_up,
)

_CHUNK = 1 << 20
_LONG_STREAM = (2 << 30) + 64 * _CHUNK
"""bcc's own example was reported to stall at 2047 MB a stream."""
_SHORT_STREAM = 64 * _CHUNK
REQUEST, ANSWER = b"a request " * 30, b"an answer " * 100


def redirect(c: Circuit) -> None:
    """What C sends reaches S, and back, and neither A nor U sees any of it."""
    c.carry()
    for _ in range(3):
        c.client.sendall(REQUEST)
        expect_bytes(c.server, REQUEST, "the server")
        c.server.sendall(ANSWER)
        expect_bytes(c.client, ANSWER, "the client")
    expect_readable(c.proxy_client, 0, "by TCP")
    expect_readable(c.proxy_server, 0, "by TCP")


def append(c: Circuit) -> None:
    """What a program puts behind a message is redirected with it."""
    c.carry()
    c.append(b"appended")
    c.client.sendall(REQUEST)
    expect_bytes(c.server, REQUEST + b"appended", "the server")


def membership(c: Circuit) -> None:
    """Enrolled sockets of which nothing is redirected are as any others."""
    for far, near in ((c.proxy_client, c.client), (c.proxy_server, c.server)):
        for sender, receiver in ((far, near), (near, far)):
            sender.sendall(REQUEST)
            expect_readable(receiver, len(REQUEST), "by TCP")
            expect_bytes(receiver, REQUEST, "the receiver")
            _stream(sender, receiver, _CHUNK)
            expect_readable(receiver, 0, "by TCP")


def readable(c: Circuit) -> None:
    """FIONREAD counts what is redirected, what comes by TCP, and both together."""
    c.carry()
    c.client.sendall(b"r" * 100)
    expect_readable(c.server, 100, "redirected")
    expect_bytes(c.server, b"r" * 100, "the server")
    expect_readable(c.server, 0, "redirected")
    c.proxy_server.sendall(b"t" * 50)
    expect_readable(c.server, 50, "by TCP")
    c.client.sendall(b"r" * 100)
    expect_readable(c.server, 150, "by TCP and redirected")


def order(c: Circuit) -> None:
    """Bytes are read in the order in which they came, whichever way."""
    c.carry()
    for way in range(8):
        (c.client if way % 2 else c.proxy_server).sendall(bytes([way]) * 100)
        # What comes by TCP is there when its sender's call returns, or a moment later.
        expect_readable(c.server, 100 * (way + 1), "by TCP and redirected")
    expect_bytes(c.server, b"".join(bytes([way]) * 100 for way in range(8)), "the server")


def wake_ups(c: Circuit) -> None:
    """epoll wakes a reader, level- and edge-triggered, for both ways."""
    for edge in (False, True):
        c.carry()
        expect_wake_up(c.server, c.client, edge, "redirected")
        expect_wake_up(c.client, c.server, edge, "redirected")
        c.pass_up()
        expect_wake_up(c.server, c.proxy_server, edge, "by TCP")
        expect_wake_up(c.client, c.proxy_client, edge, "by TCP")


def half_close(c: Circuit) -> None:
    """The end of one direction comes after its bytes, and leaves the other direction open."""
    c.carry()
    c.client.sendall(REQUEST)
    c.client.shutdown(socket.SHUT_WR)
    expect_end(c.proxy_client, "the proxy")
    expect_bytes(c.server, REQUEST, "the server")
    c.server.sendall(ANSWER)
    c.server.shutdown(socket.SHUT_WR)
    expect_end(c.proxy_server, "the proxy")
    c.proxy_client.shutdown(socket.SHUT_WR)
    expect_bytes(c.client, ANSWER, "the client")
    expect_end(c.client, "the client")
    c.proxy_server.sendall(REQUEST)
    c.proxy_server.shutdown(socket.SHUT_WR)
    expect_bytes(c.server, REQUEST, "the server")
    expect_end(c.server, "the server")


def reset(c: Circuit) -> None:
    """A connection that is reset tells its reader so, whatever waits in its queue."""
    c.carry()
    c.client.sendall(REQUEST)
    expect_readable(c.server, len(REQUEST), "redirected")
    c.proxy_server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.proxy_server.close()
    got = 0
    try:
        while piece := c.server.recv(_CHUNK):
            got += len(piece)
    except ConnectionResetError:
        expect(got in (0, len(REQUEST)), f"{got} of {len(REQUEST)} bytes came before the reset")
        return
    except TimeoutError:
        expect(False, "a reader is not told of a reset")
    expect(False, "a reader is told of an end in place of a reset")


def sendfile(c: Circuit) -> None:
    """What sendfile(2) sends is redirected too, with the bytes of the file."""
    c.carry()
    content = bytes(range(256)) * 4096
    with os.fdopen(os.memfd_create("meshd-selftest"), "w+b", buffering=0) as file:
        file.write(content)
        at = 0
        while at < len(content):
            sent = os.sendfile(c.server.fileno(), file.fileno(), at, len(content) - at)
            expect(sent > 0, "sendfile sends nothing")
            expect_bytes(c.client, content[at : at + sent], "the client")
            at += sent


def counters(c: Circuit) -> None:
    """TCP's counters of a socket count what comes and goes by TCP, and nothing else."""
    c.client.sendall(b"?")
    expect_bytes(c.proxy_client, b"?", "the proxy")
    first_sent, first_received, _ = c.maps.counters()
    first_sent += 1

    def look(way: str, sent: int, received: int, unread: int) -> None:
        c.client.sendall(b"?")
        found_sent, found_received, found_read = c.maps.counters()
        found = (
            (found_sent - first_sent) % 2**32,
            (found_received - first_received) % 2**32,
            (found_received - found_read) % 2**32,
        )
        wanted = (sent, received, unread)
        expect(found == wanted, f"{way}: sent, received and unread are {found}, not {wanted}")

    c.carry()
    c.server.sendall(ANSWER)
    expect_bytes(c.client, ANSWER, "the client")
    look("after redirected bytes", 0, 0, 0)
    c.proxy_client.sendall(b"t" * 70)
    expect_readable(c.client, 70, "by TCP")
    look("before bytes by TCP are read", 0, 70, 70)
    expect_bytes(c.client, b"t" * 70, "the client")
    look("after bytes by TCP were read", 0, 70, 0)
    c.server.sendall(ANSWER)
    c.proxy_client.sendall(b"t" * 30)
    expect_readable(c.client, len(ANSWER) + 30, "redirected and by TCP")
    expect_bytes(c.client, ANSWER + b"t" * 30, "the client")
    look("after both", 0, 100, 0)
    c.pass_up()
    look("before a byte by TCP is sent", 0, 100, 0)
    look("after a byte by TCP was sent", 1, 100, 0)


def splice(c: Circuit) -> None:
    """Who reads by splice(2), and so sees nothing of what waits, is known at once; nobody else is."""
    c.carry()
    c.client.sendall(REQUEST)
    expect_bytes(c.server, REQUEST, "the server")
    expect(c.maps.take_spliced() == 0, "a socket that was read by recv(2) counts as one read by splice(2)")
    c.client.sendall(REQUEST)
    _splice(c.server)
    inode = os.fstat(c.server.fileno()).st_ino
    expect(c.maps.take_spliced() == inode, "a call of splice(2) is not seen")
    expect_bytes(c.server, REQUEST, "the server")
    _splice(c.proxy_server)
    expect(c.maps.take_spliced() == 0, "a socket that is in no map counts as one that is")


def _splice(sock: socket.socket) -> None:
    read, write = os.pipe()
    try:
        with contextlib.suppress(BlockingIOError):
            os.splice(sock.fileno(), write, _CHUNK, flags=os.SPLICE_F_NONBLOCK)
    finally:
        os.close(read)
        os.close(write)


def long_stream(c: Circuit) -> None:
    """More than 2 GiB in one direction: no byte lost or doubled."""
    c.carry()
    _stream(c.server, c.client, _LONG_STREAM)


def stream(c: Circuit) -> None:
    """Some MiB each way."""
    c.carry()
    _stream(c.server, c.client, _SHORT_STREAM)
    _stream(c.client, c.server, _SHORT_STREAM)


CHECKS: dict[str, Callable[[Circuit], None]] = {
    "redirect": redirect,
    "bytes behind a message": append,
    "membership without redirect": membership,
    "readable bytes": readable,
    "order of redirected bytes and TCP": order,
    "epoll wake-ups": wake_ups,
    "half-close": half_close,
    "reset": reset,
    "sendfile": sendfile,
    "TCP's counters": counters,
    "splice": splice,
    "stream": stream,
}
LONG: dict[str, Callable[[Circuit], None]] = {"stream past 2 GiB": long_stream}


def _stream(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    """Raises CheckFailedError. A chunk is read before the next is sent, so one thread is enough for both."""
    chunk = bytearray(_CHUNK)
    got = memoryview(bytearray(_CHUNK))
    for number in range(size // _CHUNK):
        chunk[:8] = chunk[-8:] = struct.pack("=Q", number)
        view, at = memoryview(chunk), 0
        sent = 0
        sender.setblocking(False)
        try:
            while at < _CHUNK:
                with contextlib.suppress(BlockingIOError):
                    sent += sender.send(view[sent:]) if sent < _CHUNK else 0
                try:
                    count = receiver.recv_into(got[at:])
                except TimeoutError:
                    expect(False, f"the stream stops after {number * _CHUNK + at} bytes")
                expect(count > 0, f"the stream ends after {number * _CHUNK + at} bytes")
                at += count
        finally:
            sender.settimeout(receiver.gettimeout())
        same = got[:8] == chunk[:8] and got[-8:] == chunk[-8:]
        expect(same, f"the stream is out of step after {number * _CHUNK} bytes")
    expect_readable(receiver, 0, "before")
