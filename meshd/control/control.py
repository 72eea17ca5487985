"""The control plane: Kubernetes objects in, xDS resources out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from meshd import heap, log
from meshd.control.access import NOTHING_ASKED, Access
from meshd.control.metrics import exposition
from meshd.control.server import AdsServer
from meshd.control.source import Source, SourceError
from meshd.gateway.incremental import Change, Translator
from meshd.health_endpoint import serving_health
from meshd.kube.collection import Collection, Edits, Objects
from meshd.kube.objects import Key
from meshd.model.status import ObjectStatus, Problem, Severity
from meshd.tls_files import TlsFileError
from meshd.xds.resources import CLUSTER, LISTENER, ROUTE_CONFIG, ResourceSet, next_set, status_name

_logger = logging.getLogger("meshd.control")
CERTIFICATE_DAYS = 30
"""A certificate that is good for fewer days is warned of."""
_DAY = 86400.0


class ControlError(Exception):
    """The control plane cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run it."""

    source: Source
    listen: tuple[str, ...]
    """gRPC addresses: HOST:PORT, unix:PATH."""
    access: Access = NOTHING_ASKED
    metrics: tuple[str, int] | None = None
    """Where to serve metrics and health; None: nowhere."""


class Control:
    """Keeps the newest version of everything, and serves it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._collection = Collection()
        self._translator = Translator()
        self._reported: dict[Key, frozenset[str]] = {}
        self._ignored: frozenset[Key] = frozenset()
        self.resources = ResourceSet()
        self.server = AdsServer(options.access)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Raises ControlError."""
        if self._options.metrics is None:
            await self._run(stop)
            return
        host, port = self._options.metrics
        async with contextlib.AsyncExitStack() as health:
            try:
                await health.enter_async_context(
                    serving_health(host, port, self._metrics, self._why_not_ready)
                )
            except OSError as error:
                raise ControlError(f"metrics: {error}") from None
            await self._run(stop)

    async def _metrics(self) -> bytes:
        ends = await asyncio.to_thread(self._options.access.certificate_ends)
        return exposition(self.resources, self.server, ends)

    def _why_not_ready(self) -> str:
        return "" if self.resources.version else "the objects have not been read yet"

    async def _run(self, stop: asyncio.Event) -> None:
        for address in self._options.listen:
            try:
                port = self.server.listen(address)
            except RuntimeError:
                raise ControlError(
                    f"cannot listen on {address}: in use, or not an address of this host"
                ) from None
            except TlsFileError as error:
                raise ControlError(f"TLS: {error}") from None
            log.event(_logger, logging.INFO, "listening", address=address, port=port)
        await self.server.start()
        following = asyncio.create_task(self._follow(), name="source")
        watching = asyncio.create_task(self._watch_certificate(), name="certificate")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            stopping.cancel()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await self.server.stop()
            log.event(_logger, logging.INFO, "stopped")

    async def _watch_certificate(self) -> None:
        """Say each day that the certificate is about to end: when it has, no agent can connect."""
        while True:
            ends = await asyncio.to_thread(self._options.access.certificate_ends)
            if ends is not None and (left := (ends - time.time()) / _DAY) < CERTIFICATE_DAYS:
                told = f"{left:.0f} days left" if left > 0 else "it has ended: agents cannot connect any more"
                log.event(_logger, logging.WARNING, "certificate ends", reason=told, do="renew it")
            await asyncio.sleep(_DAY)

    async def _follow(self) -> None:
        source, first = self._options.source, True
        try:
            async with contextlib.aclosing(source.versions()) as versions:
                async for edits in versions:
                    change = await asyncio.to_thread(self._take, edits)
                    self.server.publish(self.resources)
                    source.taken(change)
                    if first:
                        heap.trim()
                        first = False
        except SourceError as error:
            raise ControlError(str(error)) from None

    def _take(self, edits: Edits) -> Change:
        """Make the next version of everything."""
        began = time.monotonic()
        objects = self._collection.edit(edits)
        change = self._translator.update(objects)
        before = self.resources
        removed = [status_name(*key) for key in change.removed_statuses]
        self.resources = next_set(before, change.config, change.statuses, removed)
        for status in change.statuses:
            self._report(_key(status), status)
        for key in change.removed_statuses:
            self._report(key, None)
        self._report_ignored(objects)
        if self.resources.version != before.version:
            config = change.config
            log.event(
                _logger,
                logging.INFO,
                "new version",
                version=self.resources.version,
                listeners=len(self.resources.of(LISTENER)),
                route_configs=len(self.resources.of(ROUTE_CONFIG)),
                clusters=len(self.resources.of(CLUSTER)),
                changed=sum(
                    map(len, (config.listeners, config.route_configs, config.clusters, config.endpoints))
                ),
                files=self._collection.places,
                seconds=f"{time.monotonic() - began:.3f}",
            )
        return change

    def _report(self, key: Key, status: ObjectStatus | None) -> None:
        """Log each problem of an object once when it appears and once when it is gone."""
        problems = {_line(status, problem): problem for problem in status.problems} if status else {}
        reported = self._reported.pop(key, frozenset())
        for line, problem in sorted(problems.items()):
            if line not in reported:
                log.event(
                    _logger,
                    logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING,
                    "problem",
                    file=status.source if status else "",
                    object=key,
                    field=problem.field,
                    reason=problem.message,
                )
        for line in sorted(reported - problems.keys()):
            log.event(_logger, logging.INFO, "problem gone", was=line)
        if problems:
            self._reported[key] = frozenset(problems)

    def _report_ignored(self, objects: Objects) -> None:
        if objects.ignored is not self._ignored:
            for key in sorted(objects.ignored - self._ignored):
                log.event(_logger, logging.DEBUG, "ignored", object=key, reason="not a kind the mesh acts on")
            self._ignored = objects.ignored


def _key(status: ObjectStatus) -> Key:
    return Key(status.kind, status.namespace, status.name)


def _line(status: ObjectStatus, problem: Problem) -> str:
    return f"{status.source}: {_key(status)}: {problem.field}: {problem.message}"
