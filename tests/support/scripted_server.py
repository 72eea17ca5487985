"""A server that answers whatever it reads with the bytes it was given, and hangs up."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType

_SECONDS = 10.0


class ScriptedServer:
    """One connection at a time, until it is closed. A context manager."""

    def __init__(self, answer: bytes, listener: socket.socket) -> None:
        """Takes ``listener`` over; it belongs to the namespace in which it was made."""
        self._answer = answer
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, name="scripted-server")
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(_SECONDS)
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(self._answer)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
