"""Answers with what it was asked, as JSON; /bytes/N streams N bytes; /ws echoes a WebSocket."""

from __future__ import annotations

import hashlib

from aiohttp import WSMsgType, web


async def _describe(request: web.Request) -> web.Response:
    body = await request.read()
    return web.json_response(
        {
            "server": "aiohttp",
            "method": request.method,
            "target": request.raw_path,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "peer": (request.transport.get_extra_info("peername") if request.transport else [""])[0],
            "length": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
    )


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    left = int(request.match_info["count"])
    while left:
        chunk = min(left, 65536)
        await response.write(b"x" * chunk)
        left -= chunk
    await response.write_eof()
    return response


async def _echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


app = web.Application(client_max_size=1 << 30)
app.router.add_get("/bytes/{count:[0-9]+}", _stream)
app.router.add_get("/ws", _echo)
app.router.add_route("*", "/{path:.*}", _describe)
web.run_app(app, host=None, port=8080, print=None)
