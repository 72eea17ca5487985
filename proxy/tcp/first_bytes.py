"""What a client sends before it has a server: kept, and read where it decides the route."""

from __future__ import annotations

from typing import Protocol

from proxy.tls.client_hello import Hello, HelloReader


class Asker(Protocol):
    """Who wants to know what a client asks for."""

    def asked(self, hello: Hello) -> None:
        """That."""

    def given_up(self) -> None:
        """Its last byte has come, and nothing can be told."""


class FirstBytes:
    """Takes a client's bytes in the place of its server (end.Sink)."""

    __slots__ = ("_asker", "_buffer", "_reader")

    def __init__(self, asker: Asker | None) -> None:
        """``asker``: None: they are kept unread."""
        self._asker = asker
        self._buffer = bytearray()
        self._reader = HelloReader()

    def write(self, data: bytes) -> None:
        """Sink: more of them. Once they are read, the client is held, so no more than a read's come."""
        self._buffer += data
        if self._asker is not None:
            hello = self._reader.feed(data)
            if hello is not None:
                asker, self._asker = self._asker, None
                asker.asked(hello)

    def write_eof(self) -> None:
        """Sink: the client has sent its last byte."""
        if self._asker is not None:
            self._asker.given_up()

    def hold(self) -> None:
        """Sink: nothing is sent to the client, so it is never behind."""

    def release(self) -> None:
        """Sink: see ``hold``."""

    def take(self) -> bytes:
        """All that has come."""
        return bytes(self._buffer)
