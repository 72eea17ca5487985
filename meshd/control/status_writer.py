"""Writes to routes or policies of a cluster how they were taken, as long as this replica leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from meshd import log
from meshd.gateway.written_status import patch
from meshd.kube_api.backoff import Backoff
from meshd.kube_api.client import ApiError, Client
from meshd.kube_api.credentials import CredentialError
from meshd.kube_api.kubeconfig import KubeConfigError
from meshd.kube_api.reflection import Name
from meshd.kube_api.resource import Kept, Resource
from meshd.model.status import ObjectStatus

MERGE_PATCH = "application/merge-patch+json"
MAX_PER_SECOND = 50.0
"""Writes: a change of a Service may concern thousands of routes, and the API server is not only ours."""
_NOT_FOUND, _CONFLICT = 404, 409
_logger = logging.getLogger("meshd.control")


class StatusWriter:
    """Level-triggered: what is written is what holds now, compared with what the object says."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        held: Callable[[Name], Kept | None],
        leads: Callable[[], bool],
    ) -> None:
        """``held``: an object as the server last told of it; None: it is gone."""
        self._client = client
        self._resource = resource
        self._held = held
        self._leads = leads
        self._wanted: dict[Name, ObjectStatus] = {}
        self._dirty: set[Name] = set()
        self._work = asyncio.Event()

    def want(self, name: Name, status: ObjectStatus | None) -> None:
        """What is to be said of an object; None: it is gone."""
        if status is None:
            self._wanted.pop(name, None)
        else:
            self._wanted[name] = status
        self.look_at(name)

    def look_at(self, name: Name) -> None:
        """Its object has changed."""
        self._dirty.add(name)
        self._work.set()

    def look_at_all(self) -> None:
        """We lead, which is new."""
        self._dirty.update(self._wanted)
        self._work.set()

    async def run(self) -> None:
        """Write, until cancelled."""
        backoff = Backoff()
        while True:
            await self._work.wait()
            self._work.clear()
            names, self._dirty = self._dirty, set()
            if not self._leads():
                continue  # the leader looks at all when it becomes one
            for name in sorted(names):
                try:
                    if await self._write(name):
                        await asyncio.sleep(1 / MAX_PER_SECOND)
                    backoff.reset()
                except (ApiError, CredentialError, KubeConfigError) as error:
                    self._log(name, error)
                    self.look_at(name)
                    await asyncio.sleep(backoff.take())

    def _log(self, name: Name, error: Exception) -> None:
        called = f"{self._resource.kind} {name[0]}/{name[1]}"
        log.event(_logger, logging.WARNING, "status not written", object=called, reason=str(error))

    async def _write(self, name: Name) -> bool:
        """Whether there was something to write. Raises ApiError, CredentialError, KubeConfigError."""
        status, held = self._wanted.get(name), self._held(name)
        if status is None or held is None:
            return False
        try:
            body = patch(self._resource.kind, held.text, status.parents, status.generation, datetime.now(UTC))
        except msgspec.MsgspecError as error:
            self._log(name, error)
            return False
        if body is None:
            return False
        path = f"{self._resource.path_in(name[0])}/{name[1]}/status"
        try:
            await self._client.send("PATCH", path, body, MERGE_PATCH)
        except ApiError as error:
            if error.status not in (_NOT_FOUND, _CONFLICT):
                raise
            # It is another one by now, or gone: the watch tells, and we look at it again.
        return True
