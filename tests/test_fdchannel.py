from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from meshd.fdchannel import ChannelError, FdChannel


class Note(msgspec.Struct):
    number: int
    text: str = ""


Ends = tuple[FdChannel[Note], FdChannel[Note]]


@asynccontextmanager
async def _pair() -> AsyncIterator[Ends]:
    decoder = msgspec.msgpack.Decoder(Note)
    left, right = socket.socketpair()
    ends = FdChannel(left, decoder), FdChannel(right, decoder)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


def _open_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_messages_and_descriptors_arrive_together_and_in_order() -> None:
    async def scenario() -> None:
        async with _pair() as (left, right):
            pipes = [os.pipe() for _ in range(3)]
            for number, (_, writer) in enumerate(pipes):
                left.send(Note(number=2 * number))
                left.send(Note(number=2 * number + 1), (writer,))
                os.close(writer)
            for number in range(6):
                message, fds = await right.receive()
                assert message.number == number
                assert len(fds) == number % 2
                if fds:
                    os.write(fds[0], b"%d" % number)
                    os.close(fds[0])
            for number, (reader, _) in enumerate(pipes):
                assert os.read(reader, 9) == b"%d" % (2 * number + 1)
                os.close(reader)

    before = _open_fds()
    asyncio.run(scenario())
    assert _open_fds() == before


def test_a_large_message_crosses_while_the_reader_reads() -> None:
    async def scenario() -> None:
        async with _pair() as (left, right):
            text = "x" * 5_000_000
            left.send(Note(number=1, text=text))
            left.send(Note(number=2))
            assert (await right.receive())[0].text == text
            assert (await right.receive())[0].number == 2

    asyncio.run(scenario())


def test_the_end_of_the_stream_is_an_error_for_the_receiver() -> None:
    async def scenario() -> None:
        async with _pair() as (left, right):
            left.close()
            with pytest.raises(ChannelError, match="closed"):
                await right.receive()
            with pytest.raises(ChannelError, match="closed"):
                left.send(Note(number=1))

    asyncio.run(scenario())


def test_closing_wakes_the_receiver() -> None:
    async def scenario() -> None:
        async with _pair() as (_, right):
            receiving = asyncio.create_task(right.receive())
            await asyncio.sleep(0)
            right.close()
            with pytest.raises(ChannelError):
                await receiving

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff\xff\x00", "bad frame"),
        (b"\x00\x00\x00\x01\x01\x00", "descriptors promised"),
        (b"\x00\x00\x00\x01\x00\xc1", "bad message"),
        (b"\x00\x00\x00\x01\xff\x00", "bad frame"),
    ],
)
def test_bytes_that_are_no_frame_are_refused(data: bytes, reason: str) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        with left:
            channel = FdChannel(right, msgspec.msgpack.Decoder(Note))
            left.sendall(data)
            with pytest.raises(ChannelError, match=reason):
                await channel.receive()
            channel.close()

    asyncio.run(scenario())


def test_descriptors_that_nobody_took_are_closed() -> None:
    async def scenario() -> None:
        async with _pair() as (left, right):
            reader, writer = os.pipe()
            left.send(Note(number=1))
            left.send(Note(number=2), (writer,))
            os.close(writer)
            await right.receive()
            right.close()
            assert os.read(reader, 1) == b""
            os.close(reader)

    before = _open_fds()
    asyncio.run(scenario())
    assert _open_fds() == before
