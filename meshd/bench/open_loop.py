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
import os
import select
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from meshd.bench import own_tool, wanted
from meshd.bench.answer import WrongAnswerError, request
from meshd.bench.arrivals import Arrivals
from meshd.bench.enduring_connections import EnduringConnections
from meshd.bench.header_blocks import BlockError
from meshd.bench.http1_connections import Http1Connections
from meshd.bench.http2_client import head
from meshd.bench.http2_connection import Http2Connection

_SHORTEST_TICK_NS = 50_000
_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK_CLOEXEC = 0o2004000


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


class Connections(Protocol):
    """Where requests go and answers come from. ``number``: of one request that is out at a time."""

    def send(self, number: int) -> None:
        """Send a request, or have ``flush`` send it."""

    def flush(self) -> None:
        """Nothing that was sent waits any more."""

    def event(self, fd: int, event: int) -> list[int]:
        """What epoll says: the numbers whose answers are complete with it."""

    def failed(self) -> Sequence[int]:
        """The numbers whose requests have failed since it was last asked; none if the first ends the run."""

    def close(self) -> None:
        """Close all."""


def run(
    epoll: select.epoll,
    connections: Connections,
    count: int,
    rate: float,
    seconds: float,
    drain_seconds: float,
) -> Arrivals:
    """Ask so long, with ``count`` requests out at a time, and wait so long for the last answers.

    Raises WrongAnswerError, OSError.
    """
    with _ticks(max(_SHORTEST_TICK_NS, int(1e9 / rate))) as timer:
        epoll.register(timer, select.EPOLLIN)
        start = time.monotonic_ns()
        arrivals = Arrivals(rate, max(1, round(rate * seconds)), count, start)
        end = start + int((seconds + drain_seconds) * 1e9)
        while not arrivals.finished and (now := time.monotonic_ns()) < end:
            while (number := arrivals.next(now)) is not None:
                connections.send(number)
                now = time.monotonic_ns()
            connections.flush()
            for number in connections.failed():
                arrivals.fail(number, time.monotonic_ns())
            for fd, event in epoll.poll(0.1):
                if fd == timer:
                    os.read(timer, 8)
                    continue
                for number in connections.event(fd, event):
                    arrivals.complete(number, time.monotonic_ns())
        return arrivals


def _connections(args: argparse.Namespace, epoll: select.epoll) -> Connections:
    address = (args.host, args.port)
    headers = [tuple(field.split(":", 1)) for field in args.header]
    authority = f"{args.host}:{args.port}"
    if args.protocol in ("http1", "http1-close"):
        new = args.protocol == "http1-close"
        asked = request(args.path, authority, dict(headers), new)
        if args.endure:
            return EnduringConnections(epoll, address, asked, args.body, args.connections)
        return Http1Connections(epoll, address, asked, args.body, args.connections, new)
    grpc = args.protocol == "grpc"
    asked = head(args.path, authority, headers, grpc)
    if not grpc:
        return Http2Connection(epoll, address, asked, None, args.body)
    return Http2Connection(epoll, address, asked, wanted.QUESTION, wanted.PREFIX_BYTES + args.body)


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
    parser.add_argument("--protocol", choices=("http1", "http1-close", "h2", "grpc"), required=True)
    parser.add_argument("--header", action="append", default=[], help="NAME:VALUE")
    parser.add_argument("--endure", action="store_true", help="go on after failures, and list them")
    args = parser.parse_args()
    if args.endure and args.protocol != "http1":
        parser.error("--endure is for --protocol http1")
    return args


def main() -> int:
    """Connect, write that it is ready, wait for a line, run, and report."""
    args = _arguments()
    gc.disable()  # for the few seconds of a run; a collection would be measured as latency
    try:
        with select.epoll() as epoll, contextlib.closing(_connections(args, epoll)) as connections:
            print(own_tool.READY, flush=True)
            sys.stdin.readline()
            found = run(epoll, connections, args.connections, args.rate, args.seconds, args.drain)
    except (OSError, WrongAnswerError, BlockError) as error:
        own_tool.write(own_tool.Report(failed=str(error)))
        return 1
    report = own_tool.Report(
        sent=found.sent,
        answered=found.answered,
        late=found.late,
        seconds=found.seconds,
        latencies=list(found.latencies.items()),
        failures=connections.failures if isinstance(connections, EnduringConnections) else [],
    )
    own_tool.write(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
