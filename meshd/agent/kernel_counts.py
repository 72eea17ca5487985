"""Reads what the kernel counted into the agent's totals, and empties it of what will not be counted again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from meshd import kept_file, log
from meshd.agent.kernel_totals import KeptTotals, KernelTotals, RuleNames
from meshd.agent.totals import RequestKey, RequestTotal
from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.counts.rows import Count, Row, UpcallRow
from meshd.datapath.rules.fingerprint import Fingerprints, Variant, cluster_id
from meshd.model.listeners import Listener
from meshd.model.routes import Forward
from meshd.model.snapshot import Snapshot
from meshd.model.workload import Workload

_logger = logging.getLogger("meshd.agent.counts")

SWEEP_SECONDS = 10.0


class KernelCounts:
    """The requests that the kernel carried and its upcalls, by the names of the config."""

    def __init__(
        self,
        carried: CarriedRequests,
        ids: Callable[[], Mapping[str, int]],
        workloads: Callable[[], Mapping[int, Workload]],
        path: Path,
    ) -> None:
        """Takes the reader over.

        ``ids``: the kernel's number of each listener in force. ``workloads``: those that are enrolled, by
        their namespaces' cookies. ``path``: where what left the kernel is kept for the next agent.
        """
        self._carried = carried
        self._ids = ids
        self._workloads = workloads
        self._path = path
        self._totals = KernelTotals(carried.methods, _read(path), time.monotonic())
        self._written = KeptTotals()
        self._fingerprints = Fingerprints()
        self._names: dict[Variant, tuple[int, RuleNames]] = {}
        self._rows: Mapping[Row, Count] = {}
        self._upcalls: Mapping[UpcallRow, int] = {}
        self._configured = False
        self._listeners: Mapping[str, Listener] | None = None
        """Those whose services' numbers are known."""
        self._lock = asyncio.Lock()

    async def config(self, snapshot: Snapshot) -> None:
        """This snapshot is in force now. Raises OSError."""
        async with self._lock:
            for variant, listener in self._fingerprints.update(snapshot).items():
                if listener is None:
                    del self._names[variant]
                else:
                    self._names[variant] = (self._fingerprints[variant], rule_names(snapshot, listener))
            self._totals.rules_in_force(dict(self._names.values()), time.monotonic())
            if snapshot.listeners is not self._listeners:
                await self._take_services()
                self._listeners = snapshot.listeners
            self._rows = await asyncio.to_thread(self._carried.requests)
            await self._keep()
            self._configured = True

    async def _take_services(self) -> None:
        ids = self._ids()
        services = {ids[name]: name for name, namespace in self._names if not namespace and name in ids}
        await self._take_upcalls(services)
        self._totals.services_in_force(services)

    def note_workloads(self) -> None:
        """Learn the names of the enrolled workloads: before they may have gone again."""
        names = {cookie: f"{each.namespace}/{each.name}" for cookie, each in self._workloads().items()}
        self._totals.workloads_present(names, time.monotonic())

    async def refresh(self) -> None:
        """Read the kernel's counts. Raises OSError."""
        self.note_workloads()
        async with self._lock:
            self._rows = await asyncio.to_thread(self._carried.requests)
            self._upcalls = await asyncio.to_thread(self._carried.upcalls)

    def rules(self) -> frozenset[int]:
        """The fingerprints of the rules in force."""
        return frozenset(fingerprint for fingerprint, _ in self._names.values())

    def requests(self) -> dict[RequestKey, RequestTotal]:
        """Of the last ``refresh``: requests that the kernel carried, by key."""
        return self._totals.requests(self._rows)

    def upcalls(self) -> dict[tuple[str, str], int]:
        """Of the last ``refresh``: upcalls by service and reason."""
        return self._totals.upcalls(self._upcalls)

    async def sweep(self) -> None:
        """Take out of the kernel, again and again, what will not be counted any more; until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.take_finished()
            except OSError as error:
                log.event(_logger, logging.WARNING, "kernel's counts not read", reason=error)

    async def take_finished(self, now: float | None = None) -> None:
        """Once. ``now``: time.monotonic, for tests. Raises OSError."""
        self.note_workloads()
        if not self._configured:
            return
        async with self._lock:
            rows = await asyncio.to_thread(self._carried.requests)
            finished = self._totals.finished(rows, time.monotonic() if now is None else now)
            for row in finished:
                if (count := self._carried.take(row)) is not None:
                    self._totals.keep(row, count)
            self._rows = {row: count for row, count in rows.items() if row not in set(finished)}
            await self._keep()

    def close(self) -> None:
        """Close the maps' fds."""
        self._carried.close()

    async def _take_upcalls(self, services: Mapping[int, str]) -> None:
        rows = await asyncio.to_thread(self._carried.upcalls)
        finished = self._totals.finished_upcalls(rows, services)
        for service in finished:
            self._totals.keep_upcalls(self._carried.take_upcalls(service))
        self._upcalls = {row: count for row, count in rows.items() if row.service not in finished}

    async def _keep(self) -> None:
        kept = self._totals.kept(self._rows)
        if kept != self._written:
            await asyncio.to_thread(self._write, kept)

    def _write(self, kept: KeptTotals) -> None:
        try:
            kept_file.replace(self._path, msgspec.msgpack.encode(kept))
        except OSError as error:
            log.event(_logger, logging.WARNING, "counts not kept", file=self._path, reason=error)
        else:
            self._written = kept


def rule_names(snapshot: Snapshot, listener: Listener) -> RuleNames:
    """What the numbers of a listener's rules stand for; as the listener is seen from some namespace. Pure."""
    config = snapshot.route_configs.get(listener.route_config)
    routes = [route for host in config.virtual_hosts for route in host.routes] if config else []
    clusters = {listener.cluster}
    for route in routes:
        if isinstance(route.action, Forward):
            clusters.update(share.name for share in route.action.clusters)
    return RuleNames(
        listener.name, tuple(route.name for route in routes), {cluster_id(name): name for name in clusters}
    )


def _read(path: Path) -> KeptTotals:
    with contextlib.suppress(FileNotFoundError):
        try:
            return msgspec.msgpack.decode(path.read_bytes(), type=KeptTotals)
        except msgspec.MsgspecError as error:
            log.event(_logger, logging.WARNING, "kept counts are unreadable", file=path, reason=error)
    return KeptTotals()
