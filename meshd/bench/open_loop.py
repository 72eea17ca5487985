"""The open loop: ``python -m meshd.bench.open_loop`` in the client pod asks at a fixed rate.

There is a tool of our own because none that Debian, PyPI or npm install counts latency from when a request
was due: h2load, hey and httperf measure from when it was sent, autocannon makes the missing samples up
afterwards, wrk2 and vegeta are in none of them. One thread and one epoll: a request costs it 50 to 100 us of
CPU time (wrk: 10), the same in all scenarios; it is good for some 16,000 a second, and tells when it did not
keep up.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

from meshd.bench.answer import AnswerReader, WrongAnswerError, request
from meshd.bench.arrivals import Arrivals

_CONNECT_SECONDS = 5.0
_PIECE = 256 * 1024
_SHORTEST_TICK_NS = 50_000
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o2004000


class RunError(Exception):
    """A request did not get the right answer; the run is worth nothing."""


@contextlib.contextmanager
def _ticks(every_ns: int) -> Iterator[int]:
    """A timerfd that is readable so often: epoll's own timeout is in milliseconds. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK_CLOEXEC)
    if timer < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    try:
        times = struct.pack("@4l", *divmod(every_ns, 10**9), *divmod(every_ns, 10**9))
        if libc.timerfd_settime(timer, 0, times, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        yield timer
    finally:
        os.close(timer)


class OpenLoop:
    """The connections of one run. Owns their sockets until ``close``."""

    def __init__(
        self, address: tuple[str, int], message: bytes, body_bytes: int, connections: int, new: bool
    ):
        self._address = (socket.gethostbyname(address[0]), address[1])
        self._message = message
        self._body_bytes = body_bytes
        self._new = new
        """Whether each request is sent on a connection of its own."""
        self._epoll = select.epoll()
        self._sockets: list[socket.socket | None] = [None] * connections
        self._readers = [AnswerReader(body_bytes) for _ in range(connections)]
        self._numbers: dict[int, int] = {}
        if not new:
            for number in range(connections):
                self._open(number).settimeout(0)

    def _open(self, number: int) -> socket.socket:
        sock = socket.create_connection(self._address, _CONNECT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._add(number, sock, select.EPOLLIN)
        return sock

    def _add(self, number: int, sock: socket.socket, events: int) -> None:
        self._sockets[number] = sock
        self._numbers[sock.fileno()] = number
        self._epoll.register(sock, events)

    def run(self, rate: float, seconds: float, drain_seconds: float) -> Arrivals:
        """Ask so long, and wait so long for the last answers. Raises RunError, OSError."""
        with _ticks(max(_SHORTEST_TICK_NS, int(1e9 / rate))) as timer:
            self._epoll.register(timer, select.EPOLLIN)
            start = time.monotonic_ns()
            arrivals = Arrivals(rate, max(1, round(rate * seconds)), len(self._sockets), start)
            end = start + int((seconds + drain_seconds) * 1e9)
            while not arrivals.finished and (now := time.monotonic_ns()) < end:
                while (number := arrivals.next(now)) is not None:
                    self._send(number)
                    now = time.monotonic_ns()
                for fd, event in self._epoll.poll(0.1):
                    if fd == timer:
                        os.read(timer, 8)
                    elif (number := self._numbers.get(fd)) is not None:
                        self._event(number, event, arrivals)
            return arrivals

    def _send(self, number: int) -> None:
        if self._new:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect(self._address)
            self._add(number, sock, select.EPOLLOUT)
        else:
            self._write(number)

    def _write(self, number: int) -> None:
        sock = self._sockets[number]
        if sock is None or sock.send(self._message) != len(self._message):
            raise RunError("a request did not fit into its connection")

    def _event(self, number: int, event: int, arrivals: Arrivals) -> None:
        sock = self._sockets[number]
        if sock is None:
            return
        if event & select.EPOLLOUT:
            self._epoll.modify(sock, select.EPOLLIN)
            self._write(number)
            return
        data = sock.recv(_PIECE)
        if not data:
            raise RunError("a connection was closed before its answer was complete")
        try:
            complete = self._readers[number].take(data)
        except WrongAnswerError as error:
            raise RunError(str(error)) from error
        if complete:
            arrivals.complete(number, time.monotonic_ns())
            if self._new:
                self._drop(number)

    def _drop(self, number: int) -> None:
        if (sock := self._sockets[number]) is not None:
            del self._numbers[sock.fileno()]
            sock.close()
            self._sockets[number] = None

    def close(self) -> None:
        """Close all connections."""
        for number in range(len(self._sockets)):
            self._drop(number)
        self._epoll.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m meshd.bench.open_loop", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--body", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--drain", type=float, default=1.0)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--new-connections", action="store_true")
    parser.add_argument("--header", action="append", default=[], help="NAME:VALUE")
    return parser.parse_args()


def main() -> int:
    """Connect, write "ready", wait for a line, run, and write what was found as JSON."""
    args = _arguments()
    headers = dict(field.split(":", 1) for field in args.header)
    message = request(args.path, f"{args.host}:{args.port}", headers, args.new_connections)
    gc.disable()  # for the few seconds of a run; a collection would be measured as latency
    try:
        loop = OpenLoop((args.host, args.port), message, args.body, args.connections, args.new_connections)
        try:
            print("ready", flush=True)
            sys.stdin.readline()
            found = loop.run(args.rate, args.seconds, args.drain)
        finally:
            loop.close()
    except (OSError, RunError) as error:
        json.dump({"failed": str(error)}, sys.stdout)
        return 1
    json.dump(
        {
            "sent": found.sent,
            "answered": found.answered,
            "late": found.late,
            "seconds": found.seconds,
            "latencies": list(found.latencies.items()),
        },
        sys.stdout,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
