"""What the agent answers: the views on its Unix socket, metrics and health over TCP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

Document = Callable[[], Awaitable[object]]
Answer = Callable[[str], Awaitable[object]]
"""To a question, as text. Raises QuestionError."""
_json = msgspec.json.Encoder()


class QuestionError(Exception):
    """What was asked has no answer. The message says why."""


@contextlib.asynccontextmanager
async def serving_admin(
    path: Path, documents: dict[str, Document], answers: dict[str, Answer]
) -> AsyncIterator[None]:
    """Serve ``GET /v1/NAME``, or ``/v1/NAME?question=TEXT``, on a Unix socket that only root may open.

    All as JSON; a QuestionError as 404. Raises OSError.
    """

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in answers:
            try:
                found = await answers[name](request.query.get("question", ""))
            except QuestionError as error:
                raise web.HTTPNotFound(text=f"{error}\n") from None
        elif name in documents:
            found = await documents[name]()
        else:
            there_are = ", ".join(sorted((*documents, *answers)))
            raise web.HTTPNotFound(text=f"no such document; there are: {there_are}\n")
        return web.Response(body=_json.encode(found), content_type="application/json")

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
