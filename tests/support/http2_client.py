"""An HTTP/2 client for tests: a session on a socket, driven by whoever waits for something."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from proxy.http2.events import Closed, Data, Event, Field, GoAway, Headers
from proxy.http2.session import Limits, Session


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.heads: list[list[Field]] = []
        """Interim ones, the final one, and trailers."""
        self.content = bytearray()
        self.ended = False
        self.code: int | None = None
        """With which the stream was closed; None: it is not."""

    @property
    def body(self) -> bytes:
        return bytes(self.content)

    @property
    def statuses(self) -> list[int]:
        return [int(dict(head)[b":status"]) for head in self.heads if head[0][0] == b":status"]

    @property
    def status(self) -> int:
        return self.statuses[-1]

    @property
    def final(self) -> dict[bytes, bytes]:
        return dict(next(head for head in self.heads if head[0] >= (b":status", b"2")))

    @property
    def trailers(self) -> list[Field]:
        last = self.heads[-1]
        return [] if last and last[0][0] == b":status" else last


class Http2Client:
    """Takes over the socket. Content is consumed as it comes, but for streams in ``slow``."""

    def __init__(self, sock: socket.socket, limits: Limits | None = None, greet: bool = True) -> None:
        self.sock = sock
        self.session = Session(False, limits or Limits(), time.monotonic)
        self.answers: dict[int, Answer] = {}
        self.goaways: list[GoAway] = []
        self.events: list[Event] = []
        """All that was not content."""
        self.slow: set[int] = set()
        self.is_closed = False
        """Whether the proxy has closed the connection."""
        if greet:
            self.flush()

    def __enter__(self) -> Http2Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()
        self.sock.close()

    def flush(self) -> None:
        data = self.session.take()
        if data:
            self.sock.sendall(data)

    def head(self, method: bytes = b"GET", path: bytes = b"/", *fields: Field) -> list[Field]:
        return [
            (b":method", method),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"web"),
            *fields,
        ]

    def request(self, fields: Sequence[Field] | None = None, ended: bool = True) -> int:
        stream = self.session.request(self.head() if fields is None else fields, ended)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def receive(self, size: int = 65536) -> None:
        """Wait for bytes, and act on them."""
        try:
            data = self.sock.recv(size)
        except ConnectionResetError:
            data = b""
        if not data:
            self.is_closed = True
            return
        self.session.feed(data)
        self.act()

    def act(self) -> None:
        self.flush()
        for event in self.session.events():
            if not isinstance(event, Data):
                self.events.append(event)
            if isinstance(event, GoAway):
                self.goaways.append(event)
            elif isinstance(event, Headers | Data | Closed):
                answer = self.answers.setdefault(event.stream, Answer())
                if isinstance(event, Closed):
                    answer.code = event.code
                    continue
                answer.ended = answer.ended or event.ended
                if isinstance(event, Headers):
                    answer.heads.append(event.fields)
                else:
                    answer.content += event.data
                    if event.stream not in self.slow:
                        self.session.consume(event.stream, len(event.data))
        self.flush()

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Receive until it holds, or the connection has ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert not self.is_closed, "the proxy has closed the connection"
            assert time.monotonic() < deadline, "condition did not come to hold"
            self.receive()

    def answer(self, stream: int) -> Answer:
        """When its stream is over."""
        self.until(lambda: self.answers[stream].code is not None)
        return self.answers[stream]

    def get(self, path: bytes = b"/", *fields: Field) -> Answer:
        return self.answer(self.request(self.head(b"GET", path, *fields)))

    def until_closed(self, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.is_closed:
            assert time.monotonic() < deadline
            self.receive()


@contextlib.contextmanager
def http2_client(sock: socket.socket, limits: Limits | None = None) -> Iterator[Http2Client]:
    with Http2Client(sock, limits) as client:
        yield client
