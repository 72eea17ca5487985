"""Says who it is, with the status that it was told to: PUT /mood ANSWER HEALTH."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_mood = {"answer": 200, "health": 200}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(_mood["health" if self.path == "/healthz" else "answer"])

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).split()
        _mood["answer"], _mood["health"] = map(int, body)
        self._answer(200)

    def _answer(self, status: int) -> None:
        name = os.environ["NAME"].encode()
        self.send_response(status)
        self.send_header("content-length", str(len(name)))
        self.end_headers()
        self.wfile.write(name)


ThreadingHTTPServer(("", 8080), _Handler).serve_forever()
