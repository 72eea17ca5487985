"""Two ends of a connection that send each other made-up frames, cut anywhere, at the same time."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable

from tests.proxy.spliced.made_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frame,
    read,
)
from tests.support.http_bed import Script, eventually


def exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, bytes(data)
        data += piece
    return bytes(data)


class End:
    """One of a connection's: sends made-up frames, cut anywhere, and keeps what comes."""

    def __init__(self, sock: socket.socket, seed: int, is_client: bool) -> None:
        self._sock = sock
        self._random = random.Random(seed)
        self._is_client = is_client
        self._answers: list[Frame] = []
        """To PINGs, which are not from the other end."""
        self.may_open = True
        self.goaways = 0
        self.opened = 0
        self.sent = bytearray()
        """But for those answers."""
        self.received = bytearray()
        self._kept = b""
        self._write((PREFACE if is_client else b"") + Frame(SETTINGS).packed())

    def _write(self, data: bytes) -> None:
        self.sent += data
        self._send(data)

    def _send(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            cut = at + (self._random.randrange(1, 12) if self._random.random() < 0.3 else 20_000)
            self._sock.sendall(data[at:cut])
            at = cut

    def run(self, frames: int) -> None:
        """Send so many, or more until ``may_open`` is taken back from a client."""
        for _ in range(frames):
            self._write(b"".join(self._some() for _ in range(self._random.choice([1, 1, 2, 40]))))
            while self._answers:
                self._send(self._answers.pop().packed())

    def _some(self) -> bytes:
        draw = self._random
        if draw.random() < 0.4 and self.may_open:
            self.opened += 1
            stream = 2 * self.opened - 1
            more = [draw.randbytes(draw.randrange(40)) for _ in range(draw.choice([0, 0, 1, 2]))]
            block = [Frame(HEADERS, 0 if more else END_HEADERS, stream, draw.randbytes(draw.randrange(60)))]
            block += [
                Frame(CONTINUATION, END_HEADERS if i == len(more) - 1 else 0, stream, each)
                for i, each in enumerate(more)
            ]
            return b"".join(each.packed() for each in block)
        size = draw.choice([0, 1, 30, 1000, 16384])
        return Frame(DATA, 0, 1, draw.randbytes(size)).packed()

    def read(self) -> None:
        """All that comes, to the end."""
        while data := self._sock.recv(65536):
            self.received += data
            if self._is_client:
                self._obey(data)

    def _obey(self, data: bytes) -> None:
        self._kept += data
        while len(self._kept) >= 9:
            size = 9 + int.from_bytes(self._kept[:3], "big")
            if len(self._kept) < size:
                return
            (frame,) = read(self._kept[:size])
            self._kept = self._kept[size:]
            if frame.type == GOAWAY:
                self.may_open = False
                self.goaways += 1
            elif frame.type == PING:
                self._answers.append(Frame(PING, ACK, 0, frame.payload))


def keeping(accepted: list[socket.socket], done: threading.Event) -> Script:
    """A server that leaves its connections to a Talk."""

    def script(sock: socket.socket) -> None:
        accepted.append(sock)
        done.wait(300)

    return script


class Talk:
    """Two ends that send at the same time, each from a thread of its own."""

    def __init__(self, client: socket.socket, accepted: list[socket.socket], seed: int) -> None:
        """``accepted``: where the server's end of it comes to."""
        before = len(accepted)
        self.client = End(client, seed, True)
        eventually(lambda: len(accepted) > before)
        server = accepted[before]
        self.server = End(server, seed + 1000, False)
        self._socks = client, server
        self._readers = self.running(self.client.read, self.server.read)

    @staticmethod
    def running(*actions: Callable[[], None]) -> list[threading.Thread]:
        threads = [threading.Thread(target=each, daemon=True) for each in actions]
        for thread in threads:
            thread.start()
        return threads

    def send(self, frames: int) -> None:
        """So many from either side."""
        wait_for(self.running(lambda: self.client.run(frames), lambda: self.server.run(frames)))

    def end(self) -> None:
        """Both have sent their last byte."""
        for sock in self._socks:
            sock.shutdown(socket.SHUT_WR)
        wait_for(self._readers)

    def check(self) -> None:
        """All is right after an end by GOAWAY."""
        client, server = self.client, self.server
        assert bytes(server.received) == bytes(client.sent)
        found = read(bytes(client.received))
        said = [i for i, frame in enumerate(found) if frame.type in (GOAWAY, PING)]
        assert [found[i].type for i in said] == [GOAWAY, PING, GOAWAY]
        assert said[1] == said[0] + 1
        assert int.from_bytes(found[said[2]].payload[:4], "big") == 2 * client.opened - 1
        assert b"".join(frame.packed() for i, frame in enumerate(found) if i not in said) == bytes(
            server.sent
        )


def wait_for(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
