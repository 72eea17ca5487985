"""Asks an Envoy of the lab over its admin socket. The caller bounds the time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

_POLL_SECONDS = 0.02
_ACTIVE = r"^http\.inbound\.downstream_rq_active$|^tcp\.inbound\.downstream_cx_active$"


async def is_ready(admin: Path) -> bool:
    """Whether it serves with config from its control plane. Raises OSError."""
    return (await _ask(admin, "GET", "/ready")).strip() == "LIVE"


async def drain_inbound(admin: Path) -> None:
    """Ask it to have its callers go elsewhere, while it goes on to listen. Raises OSError."""
    # With skip_exit the listeners stay open after the drain: the app may still serve what comes.
    await _ask(admin, "POST", "/drain_listeners?graceful&inboundonly&skip_exit")


async def until_inbound_is_idle(admin: Path) -> None:
    """Until no request and no TCP connection from outside is in progress. Raises OSError."""
    while True:
        stats = await _ask(admin, "GET", f"/stats?filter={_ACTIVE}")
        if all(line.endswith(": 0") for line in stats.splitlines()):
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _ask(admin: Path, method: str, target: str) -> str:
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as session,
            session.request(method, f"http://envoy{target}") as answer,
        ):
            return await answer.text()
    except aiohttp.ClientError as error:
        raise OSError(f"{admin}: {error}") from error
