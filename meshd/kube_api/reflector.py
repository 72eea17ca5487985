"""Follows one kind of object on an API server: the I/O around a reflection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from meshd import log
from meshd.kube_api.backoff import Backoff
from meshd.kube_api.client import ApiError, Client
from meshd.kube_api.credentials import CredentialError
from meshd.kube_api.kubeconfig import KubeConfigError
from meshd.kube_api.reflection import BrokenError, ExpiredError, Phase, Reflection
from meshd.kube_api.resource import Resource

_logger = logging.getLogger("meshd.kube_api")
_GONE, _NOT_FOUND = 410, 404
WATCH_SECONDS = (300, 600)
"""A watch is ended and begun again after a time out of this range, so not all at once (client-go)."""
SHORT_SECONDS = 5.0
"""A watch that ends sooner and tells nothing is no good."""
ABSENT_SECONDS = 30.0
"""A kind whose CRD is not installed is asked for so often."""


class Reflector:
    """Keeps one kind's objects. ``changed`` is called after each change, and when the first list is whole."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        changed: Callable[[], None],
        namespace: str = "",
        backoff: Backoff | None = None,
        absent_seconds: float = ABSENT_SECONDS,
    ) -> None:
        """``namespace``: the one to follow; empty: all."""
        self.resource = resource
        self.reflection = Reflection()
        self.absent = False
        """The server does not know the kind: there are no objects of it."""
        self.lists = 0
        """Lists begun."""
        self.problem = ""
        """Why it cannot be followed at the moment; empty: it can."""
        self._client = client
        self._namespace = namespace
        self._changed = changed
        self._backoff = backoff or Backoff()
        self._absent_seconds = absent_seconds

    @property
    def settled(self) -> bool:
        """Whether it is known what there is."""
        return self.reflection.synced or self.absent

    async def run(self) -> None:
        """Follow, until it is cancelled."""
        while True:
            wait = 0.0
            try:
                if self.reflection.phase is Phase.LISTING:
                    await self._list()
                else:
                    await self._watch()
            except ExpiredError:
                self.reflection.expired()
            except ApiError as error:
                wait = self._failed(error)
            except (BrokenError, CredentialError, KubeConfigError) as error:
                wait = self._troubled(str(error))
            if wait:
                await asyncio.sleep(wait)

    async def _list(self) -> None:
        self.lists += not self.reflection.continue_token
        token = self.reflection.continue_token
        text = await self._client.page(self.resource, self._namespace, token)
        changed = self.reflection.page(text)
        if self.reflection.phase is Phase.WATCHING:
            self._well()
            if changed or self.absent:
                self.absent = False
                self._changed()

    async def _watch(self) -> None:
        seconds = random.randint(*WATCH_SECONDS)
        version = self.reflection.resource_version
        lines = self._client.watch(self.resource, self._namespace, version, seconds)
        began, heard = asyncio.get_running_loop().time(), False
        async with contextlib.aclosing(lines):
            async for line in lines:
                changed = self.reflection.line(line)
                if not heard:
                    heard = True
                    self._well()
                if changed:
                    self._changed()
        if not heard and asyncio.get_running_loop().time() - began < SHORT_SECONDS:
            # A server that ends each watch at once is not to be asked in a loop.
            await asyncio.sleep(self._backoff.take())

    def _well(self) -> None:
        self._backoff.reset()
        if self.problem:
            log.event(_logger, logging.INFO, "followed again", kind=self.resource.kind)
            self.problem = ""

    def _failed(self, error: ApiError) -> float:
        if error.status == _GONE:
            self.reflection.expired()
            return self._backoff.take() if self.reflection.phase is Phase.LISTING else 0.0
        if error.status == _NOT_FOUND:
            return self._is_absent()
        if self.reflection.phase is Phase.LISTING:
            self.reflection.expired()
        return max(error.retry_after, self._troubled(str(error)))

    def _is_absent(self) -> float:
        """The kind is not installed, or not any more."""
        if not self.absent:
            log.event(_logger, logging.INFO, "not installed", kind=self.resource.kind)
            self.absent = True
            self.reflection.forget()
            self._changed()
        return self._absent_seconds

    def _troubled(self, reason: str) -> float:
        wait = self._backoff.take()
        if reason != self.problem:
            kind = self.resource.kind
            log.event(_logger, logging.WARNING, "cannot be followed", kind=kind, reason=reason)
            self.problem = reason
        return wait
