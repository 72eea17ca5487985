"""Clients and servers that close and pipeline as they like: all answers are right, and nothing stays."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

import pytest

from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import eventually, get, ok

SECONDS = 6.0
CLIENTS = 12
NO_LINGER = struct.pack("ii", 1, 0)


class Wire:
    """Reads messages, requests or responses, from a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = b""

    def _more(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError
        self._data += piece

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            self._more()
        found, _, self._data = self._data.partition(end)
        return found

    def _exactly(self, count: int) -> bytes:
        while len(self._data) < count:
            self._more()
        found, self._data = self._data[:count], self._data[count:]
        return found

    def message(self) -> tuple[bytes, bytes]:
        """First line and body."""
        head = self._until(b"\r\n\r\n").lower()
        body = b""
        if b"transfer-encoding: chunked" in head:
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
        elif b"content-length: " in head:
            length = head.split(b"content-length: ")[1].split(b"\r\n")[0]
            body = self._exactly(int(length))
        return head.split(b"\r\n")[0], body


def echo(sock: socket.socket) -> None:
    """Answers with the path, or the body, as the path asks for: /kind/number."""
    wire = Wire(sock)
    while True:
        line, body = wire.message()
        path = line.split(b" ")[1]
        kind = path.split(b"/")[1]
        content = body or path
        if kind == b"slow":
            time.sleep(0.003)
        if kind == b"undated":
            sock.sendall(ok(content))
        elif kind == b"chunked":
            head = b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
            pieces = [content[i : i + 3] for i in range(0, len(content), 3)]
            for piece in (head, *(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces), b"0\r\n\r\n"):
                sock.sendall(piece)
        elif kind == b"pieces":
            answer = ok(content, DATE)
            for at in range(0, len(answer), 37):
                sock.sendall(answer[at : at + 37])
        elif kind == b"close":
            sock.sendall(ok(content, DATE, b"Connection: close"))
            return
        elif kind == b"hang-up":
            return
        elif kind == b"cut":
            sock.sendall(ok(content, DATE)[:-2])
            return
        elif kind == b"reset":
            sock.sendall(ok(content, DATE)[:-2])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            return
        elif kind == b"surplus":
            sock.sendall(ok(content, DATE) + b"HTTP/1.1 200 OK\r\n\r\n")
            return
        else:
            sock.sendall(ok(content, DATE))


GOOD = (b"plain",) * 12 + (b"slow", b"undated", b"chunked", b"pieces", b"close")
BAD = (b"hang-up", b"cut", b"reset", b"surplus")


class Client:
    """Sends what it likes to, and knows what it must get."""

    def __init__(self, bed: FastPathBed, seed: int) -> None:
        self._bed = bed
        self._random = random.Random(seed)
        self._number = seed * 1_000_000
        self.failures: list[str] = []
        self.good = 0
        self._asked: list[bytes] = []

    def run(self, sock: socket.socket) -> None:
        """One connection's life."""
        try:
            self._live(sock)
        except (EOFError, ConnectionError):
            pass
        except Exception as error:
            self.failures.append(f"{error} after {self._asked[-8:]}")
        finally:
            sock.close()

    def _live(self, sock: socket.socket) -> None:
        wire = Wire(sock)
        rnd = self._random
        for _ in range(rnd.randrange(1, 60)):
            batch = rnd.choice((1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5))
            paths = [self._path() for _ in range(batch)]
            if rnd.random() < 0.05:
                self._post(wire)
                continue
            self._asked += paths
            sock.sendall(b"".join(get(path) for path in paths))
            if rnd.random() < 0.02:
                if rnd.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                return
            for path in paths:
                line, body = wire.message()
                kind = path.split(b"/")[1]
                if line.startswith(b"http/1.1 200 "):
                    assert body == path, f"{body!r} to {path!r}"
                    self.good += 1
                else:
                    # A connection that a server closes just then, or has closed.
                    assert line.startswith(b"http/1.1 503 "), line
                assert kind not in (b"cut", b"reset"), f"{path!r} was answered"

    def _post(self, wire: Wire) -> None:
        body = self._random.randbytes(self._random.choice((1, 100, 5_000, 200_000)))
        pieces = [b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % len(body)]
        pieces += [body[at : at + 40_000] for at in range(0, len(body), 40_000)]
        if self._random.random() < 0.5:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            wire.sock.sendall(piece)
        line, got = wire.message()
        if line.startswith(b"http/1.1 200 "):
            assert got == body, f"{len(body)} bytes came back as {len(got)}"
            self.good += 1
        else:
            assert line.startswith(b"http/1.1 503 "), line

    def _path(self) -> bytes:
        self._number += 1
        kind = self._random.choice(GOOD if self._random.random() < 0.97 else BAD)
        return b"/%b/%d" % (kind, self._number)


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_each_answer_is_the_right_one_and_nothing_stays(bed: FastPathBed, far: bool) -> None:
    servers = [bed.serve(echo, far) for _ in range(2)]
    bed.configure(servers)
    clients = [Client(bed, seed) for seed in range(CLIENTS)]
    deadline = time.monotonic() + SECONDS
    lock = threading.Lock()

    def live(client: Client) -> None:
        while time.monotonic() < deadline and not client.failures:
            with lock:  # sockets are made in the pod's namespace, which is the thread's to enter
                sock = bed.connect()
            client.run(sock)

    threads = [threading.Thread(target=live, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 20)
    assert [failure for client in clients for failure in client.failures] == []
    assert not any(thread.is_alive() for thread in threads), "a client is stuck"
    assert sum(client.good for client in clients) > 1000
    counts = bed.mesh.datapath.open_map("requests")
    with contextlib.closing(counts):
        assert len(list(counts)) > 0, "nothing was carried"
    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    with contextlib.ExitStack() as stack:
        maps = [
            stack.enter_context(contextlib.closing(bed.mesh.datapath.open_map(name)))
            for name in ("armed", "flows")
        ]
        eventually(lambda: [len(list(each)) for each in maps] == [0, 0])
        connections = stack.enter_context(contextlib.closing(bed.mesh.datapath.open_map("connections")))
        eventually(lambda: len(list(connections)) == bed.agent.stats().gauges["upstream_connections"])
