"""The clients: many connections, few of them at work at a time, each with a random life."""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections import Counter

from soak.exchange import BREAKS, ENDS, Client, Exchange, Server, draw
from soak.wire import WrongBytesError, content_length, read_body, reset, write_body

_SECONDS = 30.0
"""Within which an exchange comes to its end: else its client is stuck."""
_STALL = 0.3
_MOST_FAULTS = 20


class End(enum.Enum):
    """How an exchange ended."""

    ANSWERED = "answered"
    REFUSED = "502 or 503, for the server broke off"
    LOST = "503, for the server had left just before"
    CUT = "cut off by the server"
    GONE = "left by the client"


class _ConnectionOverError(Exception):
    """No further request on it."""


def _without_an_answer(several: list[Exchange]) -> End:
    if any(each.server in BREAKS for each in several):
        return End.CUT
    # A client that goes takes back what it has not read, the answers before its last request's too.
    return End.GONE if any(each.client in ENDS for each in several) else End.LOST


def _where(writer: asyncio.StreamWriter) -> str:
    """The two ends of a connection."""
    ends = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    return " to ".join(f"{address}:{port}" for address, port in ends)


class Clients:
    """Their load, and what they saw."""

    def __init__(
        self, seed: int, connections: int, at_work: int, destinations: list[tuple[str, int]]
    ) -> None:
        """``connections`` are open at a time; ``at_work`` of these send requests."""
        self._random = random.Random(seed)
        self._connections = connections
        self._turns = asyncio.Semaphore(at_work)
        self._destinations = destinations
        self._number = 0
        self._deadline = 0.0
        self.faults: list[str] = []
        self.ends: Counter[End] = Counter()
        self.leaves = 0
        """Answers of servers that closed after them without having said so."""
        self.opened = 0

    async def run(self, seconds: float) -> None:
        """Send requests for so long, then close all connections."""
        self._deadline = time.monotonic() + seconds
        await asyncio.gather(*(self._lives(index) for index in range(self._connections)))

    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline or bool(self.faults)

    async def _lives(self, index: int) -> None:
        """One connection after another."""
        rnd = random.Random(self._random.random())
        address, port = self._destinations[index % len(self._destinations)]
        while not self._is_over():
            async with self._turns:
                reader, writer = await asyncio.open_connection(address, port)
                self.opened += 1
            try:
                await self._life(rnd, reader, writer)
            except Exception as error:
                self._fault(f"a connection to {address}: {error!r}")
            finally:
                if rnd.random() < 0.2:
                    reset(writer)
                writer.close()

    async def _life(
        self, rnd: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """What a connection lives through: bursts of requests, and quiet between them."""
        while rnd.random() < 0.9 and not self._is_over():
            async with self._turns:
                for _ in range(rnd.randrange(1, 20)):
                    if self._is_over():
                        return
                    several = [self._draw(rnd) for _ in range(3 if rnd.random() < 0.01 else 1)]
                    if not await self._exchange(reader, writer, several):
                        return
            await asyncio.sleep(rnd.choice((0, 0.01, 0.9, 1.1, 2.1)))

    def _draw(self, rnd: random.Random) -> Exchange:
        self._number += 1
        return draw(rnd, self._number)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, several: list[Exchange]
    ) -> bool:
        """One request or, where the client pipelines, a few; False: the connection is at its end."""
        sending = asyncio.ensure_future(self._send(writer, several))
        try:
            async with asyncio.timeout(_SECONDS):
                # The proxy tells by RST that an answer is broken off, which may pass the answers before it.
                breaks = any(asked.server in BREAKS for asked in several)
                for asked in several:
                    await self._answer(reader, writer, asked, sending, breaks)
                await sending
        except _ConnectionOverError:
            return False
        except TimeoutError:
            self._fault(f"no end within {_SECONDS:g} s: {_where(writer)} {several}")
            return False
        except (OSError, asyncio.IncompleteReadError):  # also of a shutdown(2) that comes too late
            self._ended(_without_an_answer(several), several[0])
            return False
        except WrongBytesError as error:
            self._fault(f"{_where(writer)} {several}: {error}")
            return False
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return True

    async def _send(self, writer: asyncio.StreamWriter, several: list[Exchange]) -> None:
        for asked in several:
            body, leaves = asked.sent(), asked.client in (Client.GO, Client.GO_RESET)
            if leaves:
                body = body[: len(body) // 2]
            await write_body(writer, body, asked.chunked_up, asked.head(), whole=not leaves)
            if asked.client is Client.GO_RESET:
                reset(writer)
            elif asked.client is Client.HALF:
                writer.write_eof()
            if leaves or asked.client is Client.HALF:
                return

    async def _answer(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: Exchange,
        sending: asyncio.Future[None],
        breaks: bool,
    ) -> None:
        """Read the answer. Raises WrongBytesError, _ConnectionOverError; ConnectionError and
        IncompleteReadError where the connection ends before."""
        if asked.client in (Client.GO, Client.GO_RESET):
            await sending
            self._ended(End.GONE, asked)
            raise _ConnectionOverError
        if asked.client is Client.STALL:
            await asyncio.sleep(_STALL)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if asked.client in (Client.LEAVE, Client.LEAVE_RESET):
            if asked.client is Client.LEAVE_RESET:
                reset(writer)
            self._ended(End.GONE, asked)
            raise _ConnectionOverError
        await self._body(reader, head, asked, breaks)
        if asked.client is Client.HALF:
            if await reader.read(1):
                raise WrongBytesError("bytes after the last answer")
            raise _ConnectionOverError
        if b"\r\nconnection: close\r\n" in head:
            raise _ConnectionOverError

    async def _body(self, reader: asyncio.StreamReader, head: bytes, asked: Exchange, breaks: bool) -> None:
        """The answer's body, which must be the right one. Raises WrongBytesError, _ConnectionOverError."""
        status = head[9:12]
        if status in (b"502", b"503"):
            body = await reader.readexactly(content_length(head))
            if status == b"503" and b"before it answered" not in body:
                raise WrongBytesError(f"answered {head!r} {body!r}")
            self._ended(End.REFUSED if asked.server in BREAKS else End.LOST, asked)
            return
        if status != b"200":
            raise WrongBytesError(f"answered {head!r}")
        try:
            await read_body(reader, head, asked.answer())
        except (OSError, asyncio.IncompleteReadError) as error:
            if not breaks:
                raise WrongBytesError(f"cut off: {error!r}") from error
            self._ended(End.CUT, asked)
            raise _ConnectionOverError from error
        if asked.server in BREAKS:
            raise WrongBytesError("a whole answer, where the server broke it off")
        self._ended(End.ANSWERED, asked)

    def _ended(self, end: End, asked: Exchange) -> None:
        self.ends[end] += 1
        self.leaves += end is End.ANSWERED and asked.server is Server.LEAVE
        if end is End.LOST and not asked.up:
            self._fault(f"a GET was not sent again: {asked}")

    def _fault(self, text: str) -> None:
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)
