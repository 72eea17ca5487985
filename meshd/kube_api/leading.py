"""Takes part in the election of a leader: the I/O around an Election."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from meshd import log
from meshd.kube_api.client import ApiError, Client
from meshd.kube_api.credentials import CredentialError
from meshd.kube_api.kubeconfig import KubeConfigError
from meshd.kube_api.lease import RENEW_DEADLINE, RETRY, Election, Lease, decoded
from meshd.kube_api.resource import Resource

LEASES = Resource("Lease", "coordination.k8s.io/v1", "leases")
RELEASE_SECONDS = 2.0
_NOT_FOUND, _CONFLICT = 404, 409
_logger = logging.getLogger("meshd.kube_api")


class Leading:
    """One candidate. ``changed`` is called when it begins or ceases to lead."""

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, changed: Callable[[], None]
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._election = Election(identity)
        self._changed = changed
        self._led = False
        self._problem = ""

    @property
    def leads(self) -> bool:
        """Whether we lead now."""
        return self._election.leads(time.monotonic())

    async def run(self) -> None:
        """Take part until cancelled; then make way."""
        try:
            while True:
                await self._try()
                self._tell()
                await asyncio.sleep(RETRY)
        finally:
            if self.leads:
                with contextlib.suppress(TimeoutError, *_TROUBLES):
                    async with asyncio.timeout(RELEASE_SECONDS):
                        await self._release()

    async def _try(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(RENEW_DEADLINE):
                held = await self._held()
                wall = datetime.now(UTC)
                wanted = self._election.wanted(held, self._name, self._namespace, began, wall)
                if wanted is not None:
                    await self._write(wanted, new=held is None)
                    self._election.written(wanted, began)
            self._problem = ""
        except TimeoutError:
            self._trouble(f"no answer within {RENEW_DEADLINE:g} s")
        except ApiError as error:
            if error.status != _CONFLICT:  # else another was faster
                self._trouble(str(error))
        except (CredentialError, KubeConfigError, msgspec.MsgspecError) as error:
            self._trouble(str(error))

    async def _held(self) -> Lease | None:
        try:
            return decoded(await self._client.get(f"{LEASES.path_in(self._namespace)}/{self._name}"))
        except ApiError as error:
            if error.status == _NOT_FOUND:
                return None
            raise

    async def _write(self, lease: Lease, new: bool) -> None:
        path = LEASES.path_in(self._namespace)
        body = msgspec.json.encode(lease)
        if new:
            await self._client.send("POST", path, body)
        else:
            await self._client.send("PUT", f"{path}/{self._name}", body)

    async def _release(self) -> None:
        held = await self._held()
        if held is not None and held.spec.holder_identity == self._election.identity:
            await self._write(self._election.released(held), new=False)

    def _tell(self) -> None:
        leads = self.leads
        if leads != self._led:
            self._led = leads
            event = "leads" if leads else "leads no more"
            log.event(_logger, logging.INFO, event, lease=self._name, identity=self._election.identity)
            self._changed()

    def _trouble(self, reason: str) -> None:
        if reason != self._problem:
            log.event(_logger, logging.WARNING, "lease not renewed", lease=self._name, reason=reason)
            self._problem = reason


_TROUBLES = (ApiError, CredentialError, KubeConfigError, msgspec.MsgspecError)
