"""Wait for what discovery finds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from meshd.workloads.discovery import Discovery
from meshd.workloads.found import Found

_SECONDS = 60.0
Until = Callable[[Callable[[Found], bool]], Awaitable[Found]]
"""Waits for a state of which this is true."""


@contextlib.asynccontextmanager
async def following(discovery: Discovery) -> AsyncIterator[Until]:
    """Follow for the body."""
    states = discovery.follow()

    async def until(condition: Callable[[Found], bool]) -> Found:
        async with asyncio.timeout(_SECONDS):
            async for found in states:
                if condition(found):
                    return found
        raise AssertionError("discovery has ended")

    try:
        yield until
    finally:
        await states.aclose()
