"""What the agent answers: the views, on its Unix socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
from aiohttp import web

from meshd.health_endpoint import running

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
    async with running(app) as runner:
        await web.UnixSite(runner, str(path)).start()
        path.chmod(0o600)
        yield
    path.unlink(missing_ok=True)
