"""Follows several kinds on an API server: what there is of all of them, and then what has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence

from meshd.kube_api.client import Client
from meshd.kube_api.reflection import Name
from meshd.kube_api.reflector import Reflector
from meshd.kube_api.resource import Kept, Resource

QUIET_SECONDS = 0.02
"""Changes are given out once nothing has changed for so long: a rollout's many events are one."""
MAX_DELAY_SECONDS = 0.2
"""...but not later than this, however busy the cluster is."""

Changes = Mapping[Resource, Mapping[Name, Kept | None]]
"""Objects that are not as they were, by kind, namespace and name; None: it is gone."""


class Following:
    """Level-triggered: however many changes there were of an object, what is given out is what it is now."""

    def __init__(self, client: Client, resources: Sequence[Resource], namespace: str = "") -> None:
        """``namespace``: the one to follow; empty: all."""
        self._client = client
        self._resources = resources
        self._namespace = namespace
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncGenerator[Changes, None]:
        """What there is, when all kinds have been listed, and then what has changed."""
        reflectors = tuple(
            Reflector(self._client, resource, self._changed.set, self._namespace)
            for resource in self._resources
        )
        tasks = {asyncio.create_task(each.run(), name=each.resource.kind) for each in reflectors}
        try:
            while True:
                await self._change(tasks)
                if all(each.settled for each in reflectors):
                    yield {each.resource: each.reflection.take_changes() for each in reflectors}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _change(self, tasks: set[asyncio.Task[None]]) -> None:
        """Until something has changed, and it is quiet."""
        await changed_or_failed(self._changed, tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MAX_DELAY_SECONDS):
                while self._changed.is_set():
                    self._changed.clear()
                    await asyncio.sleep(QUIET_SECONDS)
        self._changed.clear()


async def changed_or_failed(changed: asyncio.Event, tasks: Collection[asyncio.Task[None]]) -> None:
    """Until ``changed`` is set. ``tasks``: who sets it, and who end by an error only, which is raised."""
    change = asyncio.create_task(changed.wait())
    try:
        done, _ = await asyncio.wait({change, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        change.cancel()
    for task in done - {change}:
        task.result()
