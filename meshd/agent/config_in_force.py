"""The config in force on the node: brought into the kernel and all workers, and kept for the next agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from meshd import log
from meshd.agent.config_journal import ConfigJournal
from meshd.agent.workers import Workers
from meshd.datapath.errors import CaptureError
from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.model.wire import Update

_logger = logging.getLogger("meshd.agent.config")


class ServiceMaps(Protocol):
    """The kernel's maps of services and endpoints."""

    def apply(self, old: Snapshot, new: Snapshot) -> None:
        """Bring the maps from one snapshot to the next. Raises CaptureError."""


class ConfigInForce:
    """The snapshot that kernel and workers go by."""

    def __init__(self, maps: ServiceMaps, workers: Workers, path: Path) -> None:
        self.snapshot = Snapshot()
        self.announced = self.snapshot
        """What workers have been told; ahead of ``snapshot`` while a change is under way."""
        self._maps = maps
        self._workers = workers
        self._journal = ConfigJournal(path)
        self._lock = asyncio.Lock()

    def restore(self) -> bool:
        """Take up what an earlier agent had in force. False when it left nothing (readable)."""
        try:
            kept = self._journal.read()
        except (OSError, msgspec.MsgspecError) as error:
            log.event(
                _logger, logging.WARNING, "kept config is unreadable", file=self._journal.path, reason=error
            )
            return False
        if kept is None:
            return False
        self.snapshot = self.announced = kept
        # The maps may be older or newer than the file: write all of it.
        self._maps.apply(Snapshot(), self.snapshot)
        log.event(
            _logger,
            logging.INFO,
            "config restored",
            generation=kept.generation,
            services=len(self.snapshot.listeners),
        )
        return True

    async def change(self, desired: Callable[[Snapshot], Snapshot]) -> None:
        """Put a snapshot into force: all of it or, with CaptureError, nothing.

        ``desired`` makes it from the one in force; the generation is given here. When this returns, no new
        connection or request is decided by the old snapshot.
        """
        async with self._lock:
            old = self.snapshot
            wanted = desired(old)
            delta = _numbered(difference(old, wanted), old.generation + 1)
            if delta == Delta(generation=delta.generation):
                return
            # Not ``old.apply``: to what is wanted next it is to be compared by what the two share.
            new = wanted.numbered(delta.generation)
            # A service that goes leaves the kernel first and one that comes enters it last, so that no
            # captured connection meets a worker that does not know its service.
            less = old
            if delta.removed_listeners:
                less = old.apply(Delta(generation=old.generation, removed_listeners=delta.removed_listeners))
                self._maps.apply(old, less)
            await self._update_workers(delta, old, new)
            try:
                self._maps.apply(less, new)
            except CaptureError:
                back = _numbered(difference(new, old), new.generation + 1)
                self.snapshot = new.apply(back)
                await self._update_workers(back, new, self.snapshot)
                self._maps.apply(Snapshot(), self.snapshot)
                raise
            self.snapshot = new
            await asyncio.to_thread(self._keep, delta, new)
            log.event(
                _logger,
                logging.INFO,
                "config in force",
                generation=new.generation,
                services=len(new.listeners),
                changed=sum(
                    len(part)
                    for part in (delta.listeners, delta.route_configs, delta.clusters, delta.endpoints)
                ),
            )

    async def _update_workers(self, delta: Delta, old: Snapshot, result: Snapshot) -> None:
        # First: a worker that connects while others are being waited for is sent this.
        self.announced = result
        self._workers.broadcast(Update(delta=without_cold(delta, old)))
        await self._workers.applied(delta.generation)

    def _keep(self, change: Delta, result: Snapshot) -> None:
        try:
            self._journal.keep(change, result)
        except OSError as error:
            log.event(_logger, logging.WARNING, "config not kept", file=self._journal.path, reason=error)


def without_cold(delta: Delta, old: Snapshot) -> Delta:
    """A change of ``old`` as workers are told of it: a service that is only known is none to them."""
    whole = tuple(each for each in delta.listeners if not each.cold)
    if len(whole) == len(delta.listeners):
        return delta
    gone = (each.name for each in delta.listeners if each.cold and _is_whole(old, each.name))
    return msgspec.structs.replace(
        delta, listeners=whole, removed_listeners=(*delta.removed_listeners, *gone)
    )


def _is_whole(snapshot: Snapshot, name: str) -> bool:
    return name in snapshot.listeners and not snapshot.listeners[name].cold


def _numbered(delta: Delta, generation: int) -> Delta:
    return msgspec.structs.replace(delta, generation=generation)
