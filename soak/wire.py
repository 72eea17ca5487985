"""HTTP/1.1 messages on asyncio's streams, as both ends of the soak write and read them."""

from __future__ import annotations

import asyncio
import socket
import struct

_PIECE = 50_021
"""Bytes of a chunk, and of a write."""
_NO_LINGER = struct.pack("ii", 1, 0)


class WrongBytesError(Exception):
    """A body is not the one that was sent."""


async def write_body(
    writer: asyncio.StreamWriter, body: memoryview, chunked: bool, head: bytes = b"", whole: bool = True
) -> None:
    """Write a head and a body, in pieces. ``whole``: else it has no end. Raises ConnectionError."""
    for at in range(0, len(body), _PIECE):
        piece = body[at : at + _PIECE]
        _check_open(writer)
        if chunked:
            writer.write(b"%b%x\r\n" % (head, len(piece)))
            writer.write(piece)
            head = b"\r\n"
        else:
            writer.write(head + bytes(piece) if head else piece)
            head = b""
        await writer.drain()
    if chunked and whole:
        head += b"0\r\n\r\n"
    if head:
        _check_open(writer)
        writer.write(head)
        await writer.drain()


def _check_open(writer: asyncio.StreamWriter) -> None:
    """uvloop's transports raise RuntimeError once they are closed."""
    if writer.is_closing():
        raise ConnectionResetError("the other end has closed")


async def read_body(reader: asyncio.StreamReader, head: bytes, expected: memoryview) -> None:
    """Read the body of a message with that head (in lower case).

    Raises WrongBytesError; asyncio.IncompleteReadError when the stream ends before.
    """
    at = 0
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            _compare(await reader.readexactly(size), expected[at : at + size], at)
            at += size
            _compare(await reader.readexactly(2), memoryview(b"\r\n"), at)
        _compare(await reader.readexactly(2), memoryview(b"\r\n"), at)
    else:
        length = content_length(head)
        while at < length:
            piece = await reader.read(min(length - at, 1 << 16))
            if not piece:
                raise asyncio.IncompleteReadError(b"", length - at)
            _compare(piece, expected[at : at + len(piece)], at)
            at += len(piece)
    if at != len(expected):
        raise WrongBytesError(f"{at} bytes, not {len(expected)}")


def content_length(head: bytes) -> int:
    """Of a head in lower case; 0 where it says none."""
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    return int(rest.partition(b"\r\n")[0]) if found else 0


def _compare(got: bytes, expected: memoryview, at: int) -> None:
    if got != expected:
        raise WrongBytesError(f"{len(got)} bytes from {at} on are not those that were sent: {got[:40]!r}")


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST, if it has not ended yet."""
    if writer.is_closing():
        return
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
