"""Metrics and health of a daemon, over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web


@contextlib.asynccontextmanager
async def serving_health(
    host: str, port: int, exposition: Callable[[], Awaitable[bytes]], ready: Callable[[], str]
) -> AsyncIterator[None]:
    """Serve ``/metrics`` (Prometheus text), ``/healthz`` and ``/readyz``. Raises OSError.

    ``ready`` says why the daemon is not ready; empty when it is.
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
    async with running(app) as runner:
        await web.TCPSite(runner, host, port).start()
        yield


@contextlib.asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    """An application that is set up; its sites are the caller's to start."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()
