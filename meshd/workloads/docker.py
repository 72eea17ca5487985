"""A Docker engine's running containers, over its API (v1.41: engine 20.10, and all later ones)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import msgspec

from meshd.workloads.containers import Container, netns_paths, sandbox
from meshd.workloads.openable import openable
from meshd.workloads.sandboxes import Sandbox
from meshd.workloads.trouble import Trouble

_logger = logging.getLogger("meshd.workloads.docker")
_ROOT = "http://docker/v1.41"
_RUNNING = '{"status":["running"]}'
_EVENTS = '{"type":["container","network"],"event":["start","die","rename","connect","disconnect"]}'
CALL_SECONDS = 5.0
RESYNC_SECONDS = 10.0
"""The engine is asked again after that long without an event, should one have been lost."""
QUIET_SECONDS = 0.05
"""A start comes with several events; after the first so long is waited for the others."""
MAX_EVENT_BYTES = 1024 * 1024


class _Listed(msgspec.Struct, rename="pascal"):
    id: str


_list_decoder = msgspec.json.Decoder(list[_Listed])
_container_decoder = msgspec.json.Decoder(Container)


class DockerContainers:
    """The containers that run, followed by the engine's events."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._trouble = Trouble(_logger, socket)

    async def follow(self) -> AsyncGenerator[tuple[Sandbox, ...], None]:
        """All that run, at first and after each change. An engine that is away is waited for."""
        last: tuple[Sandbox, ...] | None = None
        while True:
            connector = aiohttp.UnixConnector(str(self._socket))
            async with aiohttp.ClientSession(connector=connector, read_bufsize=MAX_EVENT_BYTES) as session:
                try:
                    async for sandboxes in self._while_connected(session):
                        if sandboxes != last:
                            last = sandboxes
                            yield sandboxes
                except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
                    self._trouble.met(str(error) or type(error).__name__)
            await asyncio.sleep(self._trouble.wait())

    async def _while_connected(
        self, session: aiohttp.ClientSession
    ) -> AsyncGenerator[tuple[Sandbox, ...], None]:
        """Raises aiohttp.ClientError, OSError (TimeoutError too) and MsgspecError."""
        endless = aiohttp.ClientTimeout(total=None, sock_connect=CALL_SECONDS)
        query = {"filters": _EVENTS}
        # First the events, then the list: nothing that happens between the two is missed.
        async with session.get(f"{_ROOT}/events", params=query, timeout=endless) as events:
            events.raise_for_status()
            while True:
                yield await self._list(session)
                self._trouble.over()
                try:
                    async with asyncio.timeout(RESYNC_SECONDS):
                        line = await events.content.readline()
                except TimeoutError:
                    continue
                if not line:
                    return
                await asyncio.sleep(QUIET_SECONDS)
                events.content.read_nowait()

    async def _list(self, session: aiohttp.ClientSession) -> tuple[Sandbox, ...]:
        listed = _list_decoder.decode(await _get(session, "/containers/json", {"filters": _RUNNING}))
        found = []
        for each in sorted(listed, key=lambda one: one.id):
            try:
                text = await _get(session, f"/containers/{each.id}/json", {})
            except aiohttp.ClientResponseError as error:
                if error.status == 404:
                    continue  # it has gone meanwhile
                raise
            made = _entered(_container_decoder.decode(text))
            if made is not None:
                found.append(made)
        return tuple(found)


def _entered(container: Container) -> Sandbox | None:
    try:
        return sandbox(container, openable(netns_paths(container)))
    except ValueError as error:
        return sandbox(container, "", str(error))


async def _get(session: aiohttp.ClientSession, path: str, query: dict[str, str]) -> bytes:
    limits = aiohttp.ClientTimeout(total=CALL_SECONDS)
    async with session.get(_ROOT + path, params=query, timeout=limits) as response:
        response.raise_for_status()
        return await response.read()
