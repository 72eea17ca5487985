"""One request and what shall become of it: its path says all to the server that gets it."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

MAX_BODY = 3 << 20
_PERIOD = 1_000_003
"""Bytes after which a body's pattern repeats: a prime, so that no buffer's size is a multiple of it."""
_PATTERN = memoryview(random.Random(_PERIOD).randbytes(_PERIOD) * (MAX_BODY // _PERIOD + 2))


class Server(enum.Enum):
    """What the server does with the request."""

    ANSWER = "answer"
    PIECES = "pieces"
    """The answer comes in pieces, with time between them."""
    PLAIN = "plain"
    """The answer has no date: the proxy's to pass on."""
    CLOSE = "close"
    """The answer says ``Connection: close``, and it is so."""
    LEAVE = "leave"
    """The server closes after its answer without having said so."""
    CUT = "cut"
    """It closes within the answer's body."""
    RESET = "reset"
    """It resets the connection there."""
    SILENT = "silent"
    """It closes without an answer."""


class Client(enum.Enum):
    """What the client does."""

    READ = "read"
    STALL = "stall"
    """It reads nothing for a while."""
    HALF = "half"
    """It sends nothing more, and says so at once."""
    GO = "go"
    """It closes within its request's body."""
    GO_RESET = "go-reset"
    """It resets the connection there."""
    LEAVE = "leave"
    """It closes within the answer."""
    LEAVE_RESET = "leave-reset"
    """It resets the connection there."""


BREAKS = frozenset((Server.CUT, Server.RESET, Server.SILENT))
"""The client gets no whole answer."""
ENDS = frozenset((Client.HALF, Client.GO, Client.GO_RESET, Client.LEAVE, Client.LEAVE_RESET))
"""The client's connection is at its end by that."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Sizes are of bodies, in bytes."""

    number: int
    up: int
    down: int
    chunked_up: bool
    chunked_down: bool
    server: Server
    client: Client = Client.READ

    @property
    def target(self) -> bytes:
        """The request's path."""
        flags = f"{self.chunked_up:d}{self.chunked_down:d}"
        return f"/{self.number}/{self.up}/{self.down}/{flags}/{self.server.value}".encode()

    def head(self) -> bytes:
        """Of the request."""
        if not self.up and not self.chunked_up:
            return b"GET %b HTTP/1.1\r\nHost: web\r\n\r\n" % self.target
        framing = framing_field(self.up, self.chunked_up)
        return b"POST %b HTTP/1.1\r\nHost: web\r\n%b\r\n\r\n" % (self.target, framing)

    def sent(self) -> memoryview:
        """The request's body."""
        return _body(2 * self.number, self.up)

    def answer(self) -> memoryview:
        """The answer's body."""
        return _body(2 * self.number + 1, self.down)


def from_target(target: bytes) -> Exchange:
    """What the server is to do; ``client`` is not its business. Raises ValueError."""
    number, up, down, flags, server = target.decode()[1:].split("/")
    return Exchange(int(number), int(up), int(down), flags[0] == "1", flags[1] == "1", Server(server))


def framing_field(length: int, chunked: bool) -> bytes:
    """The header field that says how long a body is."""
    return b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % length


def _body(key: int, length: int) -> memoryview:
    start = key * 7919 % _PERIOD
    return _PATTERN[start : start + length]


_SIZES = (0, 1, 2, 100, 1000, 1460, 4096, 16 << 10, (16 << 10) + 1, 64 << 10, 300_000)
_LARGE = (1 << 20, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, MAX_BODY)


def draw(rnd: random.Random, number: int) -> Exchange:
    """Any exchange; most of them are plain and small."""
    server, client = Server.ANSWER, Client.READ
    kind = rnd.random()
    if kind < 0.05:
        server = rnd.choice((Server.PIECES, Server.PLAIN, Server.CLOSE))
    elif kind < 0.08:
        server = rnd.choice((Server.LEAVE, Server.CUT, Server.RESET, Server.SILENT))
    elif kind < 0.10:
        client = Client.STALL
    elif kind < 0.13:
        client = rnd.choice(tuple(ENDS))
    up = _size(rnd) if rnd.random() < 0.4 or client in (Client.GO, Client.GO_RESET) else 0
    down = _size(rnd)
    if server in BREAKS or client in ENDS:
        down = max(down, 2)
    if client in (Client.GO, Client.GO_RESET):
        up = max(up, 2)
    chunked_up = rnd.random() < 0.1 if up else False
    return Exchange(number, up, down, chunked_up, rnd.random() < 0.3, server, client)


def _size(rnd: random.Random) -> int:
    kind = rnd.random()
    if kind < 0.75:
        return rnd.choice(_SIZES[:6])
    if kind < 0.98:
        return rnd.choice(_SIZES)
    return rnd.choice((*_LARGE, rnd.randrange(MAX_BODY)))
