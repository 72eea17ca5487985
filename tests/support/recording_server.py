"""An HTTP/1.1 server that says, in a response header, what it saw of the request."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from types import TracebackType

import h11

SEEN_HEADER = "x-seen"
"""Of the response: the request as it arrived, as base64 of JSON. A header, so that HEAD has it too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it arrived at a server. Header names in lower case, fields in their order."""

    server: str
    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: str


def decode_seen(text: str) -> Seen:
    """The reverse of what the server puts into SEEN_HEADER."""
    fields = json.loads(base64.b64decode(text))
    return Seen(**{**fields, "headers": tuple((name, value) for name, value in fields["headers"])})


class RecordingServer:
    """Serves on one address until it is closed, each connection in a thread. A context manager."""

    def __init__(self, name: str, listener: socket.socket) -> None:
        """Takes ``listener`` over; it belongs to the namespace in which it was made."""
        self.name = name
        self.address, self.port = listener.getsockname()[:2]
        self._listener = listener
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name=f"server-{name}")
        self._thread.start()

    def __enter__(self) -> RecordingServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        serving: list[threading.Thread] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            with self._lock:
                self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name=f"server-{self.name}-c")
            thread.start()
            serving.append(thread)
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in serving:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        protocol = h11.Connection(h11.SERVER)
        with connection, contextlib.suppress(OSError, h11.ProtocolError):
            while self._exchange(connection, protocol):
                protocol.start_next_cycle()
        with self._lock:
            self._open.discard(connection)

    def _exchange(self, connection: socket.socket, protocol: h11.Connection) -> bool:
        """One request and its response; False when the connection is at its end."""
        request: h11.Request | None = None
        body = b""
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                if protocol.they_are_waiting_for_100_continue:
                    connection.sendall(
                        protocol.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                protocol.receive_data(connection.recv(65536))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert request is not None
        connection.sendall(self._answer(protocol, request, body))
        return protocol.our_state is h11.DONE and protocol.their_state is h11.DONE

    def _answer(self, protocol: h11.Connection, request: h11.Request, body: bytes) -> bytes:
        seen = {
            "server": self.name,
            "method": request.method.decode(),
            "target": request.target.decode("latin-1"),
            "version": request.http_version.decode(),
            "headers": [(n.decode(), v.decode("latin-1")) for n, v in request.headers],
            "body": body.decode("latin-1"),
        }
        text = f"hello from {self.name}\n".encode()
        headers = [
            ("Server", "recording"),
            ("X-Backend", self.name),
            ("X-Multi", "one"),
            ("X-Multi", "two"),
            (SEEN_HEADER, base64.b64encode(json.dumps(seen).encode()).decode()),
            ("Content-Length", str(len(text))),
        ]
        return b"".join(
            protocol.send(event) or b""
            for event in (
                h11.Response(status_code=200, headers=headers),
                h11.Data(data=text if request.method != b"HEAD" else b""),
                h11.EndOfMessage(),
            )
        )
