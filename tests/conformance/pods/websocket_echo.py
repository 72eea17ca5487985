"""Sends back what a WebSocket's client sends on /ws: the suite's WebSocket port."""

from __future__ import annotations

import http

from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve


def _only_ws(connection: ServerConnection, request: Request) -> Response | None:
    return None if request.path == "/ws" else connection.respond(http.HTTPStatus.NOT_FOUND, "")


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


serve(_echo, "0.0.0.0", 3000, process_request=_only_ws).serve_forever()
