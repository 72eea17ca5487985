"""What the agent answers: the views on its Unix socket, metrics and health over TCP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

Document = Callable[[], Awaitable[object]]
_json = msgspec.json.Encoder()


@contextlib.asynccontextmanager
async def serving_admin(path: Path, documents: dict[str, Document]) -> AsyncIterator[None]:
    """Serve ``GET /v1/NAME`` as JSON on a Unix socket that only root may open. Raises OSError."""

    async def answer(request: web.Request) -> web.Response:
        if (document := documents.get(request.match_info["name"])) is None:
            raise web.HTTPNotFound(text=f"no such document; there are: {', '.join(sorted(documents))}\n")
        return web.Response(body=_json.encode(await document()), content_type="application/json")

    app = web.Application()
    app.router.add_get("/v1/{name}", answer)
    path.unlink(missing_ok=True)
    async with _running(app) as runner:
        await web.UnixSite(runner, str(path)).start()
        path.chmod(0o600)
        yield
    path.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def serving_metrics(
    host: str, port: int, exposition: Callable[[], Awaitable[bytes]], ready: Callable[[], str]
) -> AsyncIterator[None]:
    """Serve ``/metrics`` (Prometheus text), ``/healthz`` and ``/readyz``. Raises OSError.

    ``ready`` says why the node is not ready; empty when it is.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=await exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why = ready()
        return web.Response(text=f"{why or 'ok'}\n", status=503 if why else 200)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    async with _running(app) as runner:
        await web.TCPSite(runner, host, port).start()
        yield


@contextlib.asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()
