"""Sends the suite's two messages over a WebSocket, and writes what came back (JSON). Argument: the URL."""

from __future__ import annotations

import json
import sys

from websockets.sync.client import connect

found = []
for _ in range(3):
    with connect(sys.argv[1], open_timeout=15, close_timeout=15, proxy=None) as socket:
        for message in ("Websocket Support!", bytes(range(1, 8))):
            socket.send(message)
            answer = socket.recv(15)
            found.append(answer if isinstance(answer, str) else list(answer))
json.dump(found, sys.stdout)
