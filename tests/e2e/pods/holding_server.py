"""/hold is answered once /release has been asked for, /held says how many wait, anything else is at once."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_released = threading.Event()
_lock = threading.Lock()
_held = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global _held
        if self.path == "/hold":
            with _lock:
                _held += 1
            _released.wait()
        elif self.path == "/release":
            _released.set()
        body = str(_held).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


_Server(("0.0.0.0", 8080), _Handler).serve_forever()
