"""Reads answers off a connection; a right one has status 200 and a body of the wanted length. Pure."""

from __future__ import annotations

_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200 "
_LENGTH = b"\r\ncontent-length: "
_MAX_HEAD = 64 * 1024


class WrongAnswerError(Exception):
    """Not the answer that was asked for; the message says what it is."""


class AnswerReader:
    """The answers on one connection, one after the other.

    ``keep`` has ``body`` hold each answer's body; else bodies are only counted.
    """

    def __init__(self, body_bytes: int, keep: bool = False) -> None:
        self.head_bytes = 0
        """Of the answer that is being read, or was read last."""
        self.body = bytearray()
        self._wanted = body_bytes
        self._keep = keep
        self._head = b""
        self._missing = 0
        """Bytes of the body that have not come; meaningful while ``_in_body``."""
        self._in_body = False

    def take(self, data: bytes) -> bool:
        """Bytes that came: whether an answer is complete with them. Raises WrongAnswerError.

        There is one request out at a time, so bytes beyond its answer are wrong too.
        """
        if not self._in_body:
            data = self._head + data if self._head else data
            end = data.find(_END)
            if end < 0:
                if len(data) > _MAX_HEAD:
                    raise WrongAnswerError(f"a head of more than {_MAX_HEAD} bytes")
                self._head = data
                return False
            self._begin_body(data[: end + 2])
            data = data[end + 4 :]
        if len(data) > self._missing:
            raise WrongAnswerError(f"{len(data) - self._missing} bytes after the answer's end")
        if self._keep:
            self.body += data
        self._missing -= len(data)
        self._in_body = self._missing > 0
        return not self._in_body

    def _begin_body(self, head: bytes) -> None:
        if not head.startswith(_OK):
            raise WrongAnswerError("answered " + head.partition(b"\r\n")[0].decode("latin-1"))
        _, found, rest = head.lower().partition(_LENGTH)
        length = rest.partition(b"\r\n")[0].strip()
        if not found or not length.isdigit():
            raise WrongAnswerError("an answer without Content-Length")
        if int(length) != self._wanted:
            raise WrongAnswerError(f"a body of {int(length)} bytes, not {self._wanted}")
        self.head_bytes = len(head) + 2
        self._head, self._in_body, self._missing = b"", True, self._wanted
        self.body.clear()


def request(path: str, host: str, headers: dict[str, str], close: bool) -> bytes:
    """A GET."""
    fields = {"Host": host, **headers, **({"Connection": "close"} if close else {})}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
