"""The control plane: manifests in, resources out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshd import log
from meshd.control.access import NOTHING_ASKED, Access
from meshd.control.directory import Directory, Files
from meshd.control.server import AdsServer
from meshd.gateway.translate import translate
from meshd.kube.collection import Collection
from meshd.kube.httproute import HTTPRoute
from meshd.kube.objects import Key
from meshd.model.status import ConfigStatus, ObjectStatus, Severity
from meshd.tls_files import TlsFileError
from meshd.xds.resources import ResourceSet, resource_set

_logger = logging.getLogger("meshd.control")


class ControlError(Exception):
    """The control plane cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to run it."""

    manifests: Path
    listen: tuple[str, ...]
    """gRPC addresses: HOST:PORT, unix:PATH."""
    access: Access = NOTHING_ASKED


class Control:
    """Keeps the newest version of everything, and serves it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._collection = Collection()
        self._accepted: Mapping[tuple[str, str], HTTPRoute] = {}
        self._reported: frozenset[str] = frozenset()
        self._ignored: frozenset[Key] = frozenset()
        self._first = True
        self.resources = ResourceSet()
        self.server = AdsServer(options.access)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Raises ControlError."""
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
        following = asyncio.create_task(self._follow(), name="manifests")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            following.cancel()
            stopping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following
            await self.server.stop()
            log.event(_logger, logging.INFO, "stopped")

    async def _follow(self) -> None:
        root = self._options.manifests
        try:
            async for files in Directory(root).versions():
                await asyncio.to_thread(self._take, files)
                self.server.publish(self.resources)
        except OSError as error:
            raise ControlError(f"manifests directory {root}: {error.strerror}") from None

    def _take(self, files: Files) -> None:
        """Make the next version of everything."""
        began = time.monotonic()
        objects = self._collection.update(files)
        translation = translate(objects, self._accepted)
        self._accepted = translation.accepted
        before = self.resources
        self.resources = resource_set(translation.snapshot, translation.status, before)
        self._report(translation.status, objects.ignored)
        if self.resources.version != before.version:
            snapshot = translation.snapshot
            log.event(
                _logger,
                logging.INFO,
                "new version",
                version=self.resources.version,
                listeners=len(snapshot.listeners),
                route_configs=len(snapshot.route_configs),
                clusters=len(snapshot.clusters),
                endpoints=sum(len(e.endpoints) for e in snapshot.endpoints.values()),
                files=len(files),
                seconds=f"{time.monotonic() - began:.3f}",
            )

    def _report(self, status: ConfigStatus, ignored: frozenset[Key]) -> None:
        """Log each problem once when it appears and once when it is gone."""
        now = {_line(item, index): (item, index) for item in status.objects for index in _indexes(item)}
        for line in sorted(now.keys() - self._reported):
            item, index = now[line]
            problem = item.problems[index]
            log.event(
                _logger,
                logging.ERROR if problem.severity is Severity.ERROR else logging.WARNING,
                "problem",
                file=item.source,
                object=_name(item),
                field=problem.field,
                reason=problem.message,
            )
        for line in sorted(self._reported - now.keys()):
            log.event(_logger, logging.INFO, "problem gone", was=line)
        for key in sorted(ignored - self._ignored):
            log.event(_logger, logging.DEBUG, "ignored", object=key, reason="not a kind the mesh acts on")
        self._reported, self._ignored = frozenset(now), ignored


def _indexes(item: ObjectStatus) -> range:
    return range(len(item.problems))


def _name(item: ObjectStatus) -> str:
    return str(Key(item.kind, item.namespace, item.name))


def _line(item: ObjectStatus, index: int) -> str:
    problem = item.problems[index]
    return f"{item.source}: {_name(item)}: {problem.field}: {problem.message}"
