"""The answers to equal requests on one HTTP/2 connection: which are complete, and are they right? No I/O.

A right one has status 200 and content of the wanted length; a gRPC call's also ``grpc-status: 0`` at its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshd.bench.answer import WrongAnswerError
from meshd.bench.http2_client import Http2Client, Piece

_OK = b"200"


@dataclass(slots=True)
class _Answer:
    """One that is under way."""

    size: int = 0
    status: bytes = b""
    grpc_status: bytes | None = None
    grpc_message: bytes = b""
    content: bytearray = field(default_factory=bytearray)


class Http2Answers:
    """Asks, and reads what comes. ``keep`` has ``content`` hold the last complete answer's."""

    def __init__(
        self, client: Http2Client, head: bytes, content: bytes | None, wanted: int, keep: bool = False
    ) -> None:
        """``content``: of each request; None: it is no gRPC call, and has none. ``wanted``: an answer's
        bytes, with a gRPC message's prefix."""
        self.content = b""
        self._client = client
        self._head = head
        self._content = content
        self._wanted = wanted
        self._keep = keep
        self._open: dict[int, _Answer] = {}

    def ask(self) -> int:
        """Begin a request; returns its stream."""
        stream = self._client.request(self._head, self._content, ended=True)
        self._open[stream] = _Answer()
        return stream

    def take(self, data: bytes) -> list[int]:
        """Bytes that came: the streams whose answers are complete with them. Raises WrongAnswerError."""
        complete = []
        for piece in self._client.take(data):
            answer = self._open.get(piece.stream)
            if answer is None:
                raise WrongAnswerError("an answer that nobody asked for")
            self._add(answer, piece)
            if piece.ended:
                del self._open[piece.stream]
                self._require_right(answer)
                complete.append(piece.stream)
        return complete

    def _add(self, answer: _Answer, piece: Piece) -> None:
        if piece.fields is None:
            answer.size += len(piece.content)
            if self._keep:
                answer.content += piece.content
            return
        for name, value in piece.fields:
            if name == b":status":
                answer.status = value
            elif name == b"grpc-status":
                answer.grpc_status = value
            elif name == b"grpc-message":
                answer.grpc_message = value

    def _require_right(self, answer: _Answer) -> None:
        if answer.status != _OK:
            raise WrongAnswerError(f"answered with status {answer.status.decode('latin-1') or 'none'}")
        if self._content is not None and answer.grpc_status != b"0":
            said = b"no grpc-status" if answer.grpc_status is None else b"grpc-status " + answer.grpc_status
            reason = b": " + answer.grpc_message if answer.grpc_message else b""
            raise WrongAnswerError("answered with " + (said + reason).decode("latin-1"))
        if answer.size != self._wanted:
            raise WrongAnswerError(f"a body of {answer.size} bytes, not {self._wanted}")
        self.content = bytes(answer.content)
