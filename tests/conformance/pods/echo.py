"""Answers with the request, as JSON: after ``?delay=`` seconds, with the fields in X-Echo-Set-Header.

Of requests with one ``?uuid=`` the first ``?succeedAfter=`` get the status ``?responseCode=``, or a reset.
``/_received?TEXT`` answers with all requests so far that have the text in their paths.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import struct
import time
import urllib.parse
from collections import Counter, deque

_RECEIVED: deque[dict[str, object]] = deque(maxlen=20_000)
_TRIES: Counter[str] = Counter()


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def _echo(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        if parts.path == "/_received":
            self._answer(200, [each for each in list(_RECEIVED) if parts.query in str(each["path"])])
            return
        query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        time.sleep(float(query.get("delay", "0")))
        headers: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        request: dict[str, object] = {"method": self.command, "path": self.path, "headers": headers}
        _RECEIVED.append(request)
        status = 200
        if "uuid" in query:
            _TRIES[query["uuid"]] += 1
            if _TRIES[query["uuid"]] <= int(query["succeedAfter"]):
                if "responseCode" not in query:
                    self._reset()
                    return
                status = int(query["responseCode"])
        self._answer(status, {"pod": os.environ["POD"], **request})

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # Not shut down but closed: with this option that is a reset.
        os.close(self.connection.detach())

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for item in filter(None, self.headers.get("x-echo-set-header", "").split(",")):
            name, _, value = item.strip().partition(":")
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _echo  # noqa: N815  (the base class calls them)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


Server(("", 8080), Echo).serve_forever()
