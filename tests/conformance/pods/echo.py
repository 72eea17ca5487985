"""Answers with the request, as JSON: after ``?delay=`` seconds, with the fields in X-Echo-Set-Header."""

from __future__ import annotations

import http.server
import json
import os
import time
import urllib.parse


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def _echo(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        time.sleep(float(query.get("delay", ["0"])[0]))
        headers: dict[str, list[str]] = {}
        for name, value in self.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        body = json.dumps(
            {"pod": os.environ["POD"], "method": self.command, "path": self.path, "headers": headers}
        ).encode()
        self.send_response(200)
        for item in filter(None, self.headers.get("x-echo-set-header", "").split(",")):
            name, _, value = item.strip().partition(":")
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _echo  # noqa: N815  (the base class calls them)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


Server(("", 8080), Echo).serve_forever()
