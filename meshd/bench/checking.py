"""``python -m meshd.bench.checking`` in the client pod: are answers right, byte by byte?

It asks for a body some times on one connection (later requests may go another way than the first), compares
every byte, and tells how long the heads were.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time

import msgspec

from meshd.bench import wanted
from meshd.bench.answer import AnswerReader, WrongAnswerError, request
from meshd.bench.header_blocks import BlockError
from meshd.bench.http2_answers import Http2Answers
from meshd.bench.http2_client import Http2Client, head
from meshd.bench.plan import Load
from meshd.bench.streaming import Streams

_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
_PIECE = 1 << 18
_OTHER_BYTES = "a body of the right length with other bytes"


class Question(msgspec.Struct, frozen=True):
    """What is to be checked."""

    host: str
    load: Load
    times: int
    patience: float = 0.0
    """Seconds from the start of all for which it is asked again while it is wrong: pods may be ready before
    routes are in force."""


class Finding(msgspec.Struct, frozen=True):
    """What came of it."""

    wrong: str = ""
    """Empty: all is right."""
    least: int = 0
    most: int = 0
    """Sizes of the answers' heads."""


def _found(question: Question, start: float) -> Finding:
    deadline = start + question.patience
    while True:
        try:
            least, most = ask(question.host, question.load, question.times)
        except (OSError, WrongAnswerError, BlockError) as error:
            if time.monotonic() >= deadline:
                return Finding(wrong=str(error))
            time.sleep(_PAUSE_SECONDS)
        else:
            return Finding(least=least, most=most)


def ask(host: str, load: Load, times: int) -> tuple[int, int]:
    """The least and the greatest size of the answers' heads, where those count (HTTP/1.1), else 0.

    Raises WrongAnswerError, BlockError, OSError.
    """
    address = host, wanted.PORTS[load.protocol]
    if load.protocol == "grpc-stream":
        return _ask_on_a_stream(address, load, times)
    with socket.create_connection(address, _SECONDS) as connection:
        asked = _ask_http1 if load.is_http1 else _ask_http2
        return asked(connection, f"{address[0]}:{address[1]}", load, times)


def _ask_http1(connection: socket.socket, authority: str, load: Load, times: int) -> tuple[int, int]:
    body = wanted.body(load.body_bytes)
    message = request(wanted.path(load.body_bytes), authority, wanted.HEADERS, close=False)
    reader = AnswerReader(len(body), keep=True)
    sizes = []
    for _ in range(times):
        connection.sendall(message)
        while not reader.take(_some(connection)):
            pass
        if reader.body != body:
            raise WrongAnswerError(_OTHER_BYTES)
        sizes.append(reader.head_bytes)
    return min(sizes), max(sizes)


def _ask_http2(connection: socket.socket, authority: str, load: Load, times: int) -> tuple[int, int]:
    grpc = load.protocol == "grpc"
    body = wanted.body(load.body_bytes)
    content = wanted.message(body) if grpc else body
    asked = head(wanted.path(load.body_bytes), authority, wanted.HEADERS.items(), grpc)
    with contextlib.closing(Http2Client()) as client:
        answers = Http2Answers(client, asked, wanted.QUESTION if grpc else None, len(content), keep=True)
        for _ in range(times):
            answers.ask()
            complete: list[int] = []
            while not complete:
                connection.sendall(client.out)
                client.out.clear()
                complete = answers.take(_some(connection))
            if answers.content != content:
                raise WrongAnswerError(_OTHER_BYTES)
    return 0, 0


def _ask_on_a_stream(address: tuple[str, int], load: Load, times: int) -> tuple[int, int]:
    path = wanted.path(load.body_bytes)
    opened = Streams(address, path, wanted.HEADERS.items(), load.body_bytes, load.connections)
    with contextlib.closing(opened) as streams:
        for _ in range(times):
            streams.once(_SECONDS)
        streams.end()
    return 0, 0


def _some(connection: socket.socket) -> bytes:
    if not (data := connection.recv(_PIECE)):
        raise WrongAnswerError("the connection was closed before the answer was complete")
    return data


def main() -> None:
    """Read the questions from standard input, write the findings in their order, both JSON."""
    questions = msgspec.json.decode(sys.stdin.read(), type=list[Question])
    start = time.monotonic()
    findings = [_found(question, start) for question in questions]
    sys.stdout.write(msgspec.json.encode(findings).decode())


if __name__ == "__main__":
    main()
