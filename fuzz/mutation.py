"""Makes new messages of known ones, by chance that a seed repeats."""

from __future__ import annotations

import random
from collections.abc import Sequence

PIECES = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b": ",
        b"\0",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"%",
        b"#",
    ),
    *(b"/", b"//", b"/../", b"?", b"*", b"http://a/", b"%2F", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"),
    *(b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT "),
    *(b"Host", b"Host: a\r\n", b"Host: a:80\r\n", b"Host: [::1]:80\r\n", b"Host: a b\r\n", b"Host:\r\n"),
    *(
        b"Content-Length: 5\r\n",
        b"Content-Length: 05\r\n",
        b"Content-Length: +5\r\n",
        b"content-length: 5\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunKed\r\n"),
    *(b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"Connection: x, keep-alive\r\n"),
    *(b"Keep-Alive: timeout=5\r\n", b"Proxy-Connection: close\r\n", b"TE: trailers\r\n", b"Trailer: a\r\n"),
    *(
        b"Upgrade: websocket\r\n",
        b"HTTP2-Settings: AAMAAABk\r\n",
        b"Expect: 100-continue\r\n",
        b"Via: 1.1 a\r\n",
        b"X-Forwarded-For: 1.2.3.4\r\n",
    ),
    *(b"X-Forwarded-Proto: https\r\n", b"X-Request-Id: 1\r\n", b"Date: Sat, 21 Nov 2026 00:00:00 GMT\r\n"),
    *(b"Accept: */*\r\n", b"Cookie: a=b; c=d\r\n", b"X-Canary: yes\r\n", b"x-canary: \r\n", b" folded\r\n"),
    *(b"-", b"_", b"Content-", b"Length", b"X-" + b"a" * 30, b"a" * 64, b"1234567890", b"12345678901"),
    *(
        b"200",
        b"204",
        b"304",
        b"100",
        b"101",
        b"999",
        b" OK",
        b"[",
        b"]",
        b"@",
        b"65535",
        b"99999",
        b"999999",
    ),
)
"""What heads are made of, good and bad."""


class Mutator:
    """Messages that differ from those of a corpus in one place, or in a few."""

    def __init__(self, corpus: Sequence[bytes], seed: int) -> None:
        self._corpus = corpus
        random_ = random.Random(seed)
        self._random = random_.random
        self._steps = (_byte, _byte, _bit, _case, _insert, _insert, _overwrite, _remove, _repeat, _cut, _line)

    def next(self) -> bytes:
        """Another message."""
        chance = self._random
        corpus, steps = self._corpus, self._steps
        data = corpus[int(chance() * len(corpus))]
        changes = 1
        while chance() < 0.3:
            changes += 1
        for _ in range(changes):
            if chance() < 0.02:
                data = self._spliced(data)
            if data:
                at = int(chance() * len(data))
                data = steps[int(chance() * len(steps))](data, at, chance())
        return data

    def _spliced(self, data: bytes) -> bytes:
        """The first lines of one message, the last ones of another."""
        other = self._corpus[int(self._random() * len(self._corpus))]
        one, two = data.split(b"\r\n"), other.split(b"\r\n")
        return b"\r\n".join(one[: int(self._random() * len(one))] + two[int(self._random() * len(two)) :])


def _byte(data: bytes, at: int, chance: float) -> bytes:
    return b"%b%c%b" % (data[:at], int(chance * 256), data[at + 1 :])


def _bit(data: bytes, at: int, chance: float) -> bytes:
    return b"%b%c%b" % (data[:at], data[at] ^ 1 << int(chance * 8), data[at + 1 :])


def _case(data: bytes, at: int, chance: float) -> bytes:
    end = at + 1 + int(chance * 16)
    return data[:at] + data[at:end].swapcase() + data[end:]


def _piece(chance: float) -> bytes:
    return PIECES[int(chance * len(PIECES))]


def _insert(data: bytes, at: int, chance: float) -> bytes:
    return data[:at] + _piece(chance) + data[at:]


def _overwrite(data: bytes, at: int, chance: float) -> bytes:
    piece = _piece(chance)
    return data[:at] + piece + data[at + len(piece) :]


def _line(data: bytes, at: int, chance: float) -> bytes:
    """Insert at the end of a line."""
    at = data.find(b"\r\n", at) + 2
    return data[:at] + _piece(chance) + data[at:]


def _remove(data: bytes, at: int, chance: float) -> bytes:
    return data[:at] + data[at + 1 + int(chance * 12) :]


def _repeat(data: bytes, at: int, chance: float) -> bytes:
    end = at + 1 + int(chance * 40)
    return data[:end] + data[at:]


def _cut(data: bytes, at: int, chance: float) -> bytes:
    return data[:at] if chance < 0.5 else data[at:]
