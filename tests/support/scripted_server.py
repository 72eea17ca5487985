"""A server that answers whatever it reads with the bytes it was given, in their order, and hangs up."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

_SECONDS = 10.0


class ScriptedServer:
    """One connection at a time, until it is closed. A context manager."""

    def __init__(self, answers: Sequence[bytes], listener: socket.socket) -> None:
        """Takes ``listener`` over; it belongs to the namespace in which it was made.

        The last answer is given again and again.
        """
        self._answers = answers
        self._listener = listener
        self.requests = 0
        """That it has read."""
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
                if connection.recv(65536):
                    self.requests += 1
                    connection.sendall(self._answers[min(self.requests, len(self._answers)) - 1])

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
