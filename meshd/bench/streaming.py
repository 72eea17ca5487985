"""gRPC streams: ``python -m meshd.bench.streaming`` in the client pod sends messages to and fro.

Each of some streams of one connection sends a message, waits until it is back, and sends the next: what is
measured is a message's way there and back, on streams that are open all the time. No load tool that Debian
or PyPI installs does that. One thread; a message costs it some 20 us of CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import socket
import sys
import time
from collections.abc import Iterable

from meshd.bench import own_tool, wanted
from meshd.bench.answer import WrongAnswerError
from meshd.bench.header_blocks import BlockError
from meshd.bench.http1_connections import CONNECT_SECONDS, PIECE
from meshd.bench.http2_client import Http2Client, Piece, head

_END_SECONDS = 5.0
"""For the streams' ends: each has to say that it was right."""


class Streams:
    """All streams of one run. Owns its socket until ``close``."""

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        headers: Iterable[tuple[str, str]],
        body_bytes: int,
        count: int,
    ) -> None:
        """``body_bytes``: of a message. ``count``: of streams. Raises OSError, BlockError."""
        self.latencies: dict[int, int] = {}
        self.answered = 0
        self._message = wanted.message(wanted.body(body_bytes))
        asked = head(path, f"{address[0]}:{address[1]}", headers, grpc=True)
        self._client = Http2Client()
        self._socket = socket.create_connection(address, CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._streams = [self._client.request(asked, None, ended=False) for _ in range(count)]
        self._sent = dict.fromkeys(self._streams, 0)
        """When the message was sent that is on its way; nanoseconds."""
        self._came = dict.fromkeys(self._streams, b"")
        """Of it, so far."""
        self._out = 0
        """Messages that are on their way."""
        self._status: dict[int, bytes] = {}

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._client.close()

    def once(self, seconds: float) -> None:
        """A message on each stream, there and back: then all are open end to end. Raises WrongAnswerError,
        OSError."""
        for stream in self._streams:
            self._send(stream)
        deadline = time.monotonic() + seconds
        while self._out:
            self._turn(deadline, goes_on=False)

    def run(self, seconds: float, drain_seconds: float) -> float:
        """Messages to and fro; returns how long. Raises WrongAnswerError, OSError."""
        self.latencies.clear()
        self.answered = 0
        start = time.monotonic()
        for stream in self._streams:
            self._send(stream)
        while time.monotonic() < start + seconds:
            self._turn(start + seconds + drain_seconds, goes_on=True)
        while self._out:
            self._turn(start + seconds + drain_seconds, goes_on=False)
        return time.monotonic() - start

    def end(self) -> None:
        """End all streams; each has to have been right. Raises WrongAnswerError, OSError."""
        for stream in self._streams:
            self._client.send(stream, b"", ended=True)
        deadline = time.monotonic() + _END_SECONDS
        while len(self._status) < len(self._streams):
            self._turn(deadline, goes_on=False)
        if wrong := [status for status in self._status.values() if status != b"0"]:
            raise WrongAnswerError(f"a stream ended with grpc-status {wrong[0].decode('latin-1') or 'none'}")

    def _send(self, stream: int) -> None:
        self._out += 1
        self._sent[stream] = time.monotonic_ns()
        self._client.send(stream, self._message, ended=False)

    def _turn(self, deadline: float, goes_on: bool) -> None:
        """Send what waits, take what comes. ``goes_on``: a message that is back is sent again."""
        if self._client.out:
            self._socket.sendall(self._client.out)
            self._client.out.clear()
        left = deadline - time.monotonic()
        if left <= 0:
            raise WrongAnswerError(f"{self._out} messages did not come back in time")
        self._socket.settimeout(left)
        data = self._socket.recv(PIECE)
        if not data:
            raise WrongAnswerError("the connection was closed while streams were open")
        now = time.monotonic_ns()
        for piece in self._client.take(data):
            if piece.fields is not None:
                self._fields(piece)
            elif self._is_back(piece):
                micros = (now - self._sent[piece.stream]) // 1000
                self.latencies[micros] = self.latencies.get(micros, 0) + 1
                self.answered += 1
                self._out -= 1
                if goes_on:
                    self._send(piece.stream)

    def _fields(self, piece: Piece) -> None:
        found = dict(piece.fields or ())
        if (status := found.get(b":status")) not in (None, b"200"):
            raise WrongAnswerError(f"answered with status {status.decode('latin-1')}")
        if piece.ended:
            self._status[piece.stream] = found.get(b"grpc-status", b"")
            if self._out:
                said = found.get(b"grpc-status", b"none").decode("latin-1")
                raise WrongAnswerError(f"a stream ended early, with grpc-status {said}")

    def _is_back(self, piece: Piece) -> bool:
        came = self._came[piece.stream] + piece.content
        whole = len(came) >= len(self._message)
        if whole and came != self._message:
            raise WrongAnswerError("a message that came back is not the one that was sent")
        self._came[piece.stream] = b"" if whole else came
        return whole


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m meshd.bench.streaming", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--body", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--drain", type=float, default=1.0)
    parser.add_argument("--connections", type=int, required=True, help="streams of the one connection")
    parser.add_argument("--header", action="append", default=[], help="NAME:VALUE")
    return parser.parse_args()


def main() -> int:
    """Connect, write that it is ready, wait for a line, run, and report."""
    args = _arguments()
    headers = [tuple(field.split(":", 1)) for field in args.header]
    gc.disable()  # for the few seconds of a run; a collection would be measured as latency
    try:
        opened = Streams((args.host, args.port), args.path, headers, args.body, args.connections)
        with contextlib.closing(opened) as streams:
            streams.once(CONNECT_SECONDS)
            print(own_tool.READY, flush=True)
            sys.stdin.readline()
            seconds = streams.run(args.seconds, args.drain)
            streams.end()
    except (OSError, WrongAnswerError, BlockError) as error:
        own_tool.write(own_tool.Report(failed=str(error) or "it timed out"))
        return 1
    found = list(streams.latencies.items())
    report = own_tool.Report(
        sent=streams.answered, answered=streams.answered, seconds=seconds, latencies=found
    )
    own_tool.write(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
