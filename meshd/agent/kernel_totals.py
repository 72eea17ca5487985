"""Sums of what the kernel counted, in the words of the workers' counts. Pure.

A row of the kernel's names rules, cluster and caller by numbers, which have names only while the config that
they come from is known. So rows whose rules or caller went are added to sums kept here and leave the kernel:
some time later, for requests that were under way then are counted when they end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from meshd.agent.totals import RequestKey, RequestTotal
from meshd.datapath.counts.rows import Count, Row, UpcallRow
from meshd.model.wire import LATENCY_BUCKETS

GRACE_SECONDS = 30.0
"""A row stays in the kernel for that long after its rules or its caller went."""
MAX_KEPT_NAMES = 4096
"""Names of rules and callers that went: for requests that took longer than the grace."""
UNKNOWN = "unknown"
"""In place of a name that is no longer known."""
_CANCELLED = "DC"
"""The response flag of a request whose client went (proxy/telemetry/response_flags.py)."""

_Name = TypeVar("_Name")


class RuleNames(msgspec.Struct, frozen=True):
    """What the numbers of one service's rules stand for."""

    service: str
    """The listener's name."""
    routes: tuple[str, ...]
    clusters: dict[int, str]


_UNKNOWN_RULES = RuleNames(UNKNOWN, (), {})
_NEVER = (0.0, _UNKNOWN_RULES)
_NOBODY = (0.0, UNKNOWN)


class KeptTotals(msgspec.Struct, frozen=True):
    """For the next agent: what left the kernel, and the names of what went and is still counted there."""

    requests: tuple[tuple[RequestKey, int, float, tuple[int, ...]], ...] = ()
    upcalls: tuple[tuple[str, str, int], ...] = ()
    rules: dict[int, RuleNames] = {}
    workloads: dict[int, str] = {}


class KernelTotals:
    """The kernel's counts, in force and gone."""

    def __init__(self, methods: Mapping[int, str], kept: KeptTotals | None = None, now: float = 0.0) -> None:
        """``methods``: enum method to names. ``kept``: by an earlier agent. ``now``: time.monotonic."""
        self._methods = methods
        self._rules: Mapping[int, RuleNames] = {}
        self._workloads: Mapping[int, str] = {}
        self._services: Mapping[int, str] | None = None
        self._old_rules: dict[int, tuple[float, RuleNames]] = {}
        self._old_workloads: dict[int, tuple[float, str]] = {}
        self._kept: dict[RequestKey, RequestTotal] = {}
        self._kept_upcalls: Counter[tuple[str, str]] = Counter()
        for key, count, seconds, buckets in kept.requests if kept else ():
            self._kept[key] = RequestTotal(count, seconds, list(buckets))
        for service, reason, count in kept.upcalls if kept else ():
            self._kept_upcalls[service, reason] = count
        for number, names in kept.rules.items() if kept else ():
            self._old_rules[number] = (now, names)
        for number, name in kept.workloads.items() if kept else ():
            self._old_workloads[number] = (now, name)

    def rules_in_force(self, rules: Mapping[int, RuleNames], now: float) -> None:
        """These fingerprints are in force now, and no others. ``now``: time.monotonic."""
        _retire(self._old_rules, self._rules, rules, now)
        self._rules = rules

    def workloads_present(self, workloads: Mapping[int, str], now: float) -> None:
        """These are the enrolled workloads (``namespace/name``), by the cookie of their network namespace."""
        _retire(self._old_workloads, self._workloads, workloads, now)
        self._workloads = workloads

    def services_in_force(self, services: Mapping[int, str]) -> None:
        """The listeners' names by ``service.id``. Take the upcalls of those that go before this is called."""
        self._services = services

    def finished(self, rows: Iterable[Row], now: float) -> list[Row]:
        """The rows that are to leave the kernel: ``keep`` what is taken from there.

        A number that means nothing yet (this agent has just begun) may get its meaning within the grace.
        """
        found = []
        for row in rows:
            if row.rules not in self._rules:
                self._old_rules.setdefault(row.rules, (now, _UNKNOWN_RULES))
            if row.netns not in self._workloads:
                self._old_workloads.setdefault(row.netns, (now, UNKNOWN))
            since = min(
                self._old_rules.get(row.rules, (now,))[0], self._old_workloads.get(row.netns, (now,))[0]
            )
            if now - since >= GRACE_SECONDS:
                found.append(row)
        return found

    def keep(self, row: Row, count: Count) -> None:
        """Add what was taken from the kernel."""
        _add(self._kept, self._key(row), count)

    def finished_upcalls(self, rows: Iterable[UpcallRow], services: Iterable[int]) -> set[int]:
        """The services whose upcalls are to leave the kernel when ``services`` are those in force."""
        return {row.service for row in rows} - set(services)

    def keep_upcalls(self, taken: Mapping[UpcallRow, int]) -> None:
        """Add what was taken from the kernel."""
        for row, count in taken.items():
            self._kept_upcalls[self._service(row), row.reason] += count

    def kept(self, rows: Iterable[Row] = ()) -> KeptTotals:
        """What the next agent cannot know. ``rows``: those in the kernel."""
        held = tuple(rows)
        return KeptTotals(
            tuple((key, kept.count, kept.seconds, tuple(kept.buckets)) for key, kept in self._kept.items()),
            tuple((*key, count) for key, count in self._kept_upcalls.items()),
            {row.rules: self._old_rules[row.rules][1] for row in held if row.rules in self._old_rules},
            {
                row.netns: self._old_workloads[row.netns][1]
                for row in held
                if row.netns in self._old_workloads
            },
        )

    def requests(self, rows: Mapping[Row, Count]) -> dict[RequestKey, RequestTotal]:
        """Totals by key: what was kept, and what the kernel holds."""
        totals = {
            key: RequestTotal(kept.count, kept.seconds, list(kept.buckets))
            for key, kept in self._kept.items()
        }
        for row, count in rows.items():
            if self._is_known(row):
                _add(totals, self._key(row), count)
        return totals

    def upcalls(self, rows: Mapping[UpcallRow, int]) -> dict[tuple[str, str], int]:
        """Totals by service and reason."""
        totals = Counter(self._kept_upcalls)
        for row, count in rows.items():
            totals[self._service(row), row.reason] += count
        return dict(totals)

    def _is_known(self, row: Row) -> bool:
        """Otherwise it waits until it leaves the kernel: what was ``unknown`` first would be taken back."""
        rules = row.rules in self._rules or self._old_rules.get(row.rules, _NEVER)[1] != _UNKNOWN_RULES
        caller = row.netns in self._workloads or self._old_workloads.get(row.netns, _NOBODY)[1] != UNKNOWN
        return rules and caller

    def _service(self, row: UpcallRow) -> str:
        return (self._services or {}).get(row.service, UNKNOWN)

    def _key(self, row: Row) -> RequestKey:
        names = self._rules.get(row.rules) or self._old_rules.get(row.rules, _NEVER)[1]
        source = self._workloads.get(row.netns) or self._old_workloads.get(row.netns, _NOBODY)[1]
        return RequestKey(
            names.service,
            names.routes[row.route] if row.route < len(names.routes) else UNKNOWN,
            names.clusters.get(row.cluster, UNKNOWN),
            source,
            self._methods.get(row.method, UNKNOWN),
            row.status,
            _CANCELLED if row.cancelled else "",
        )


def _retire(
    old: dict[int, tuple[float, _Name]], before: Mapping[int, _Name], after: Mapping[int, _Name], now: float
) -> None:
    for number in before.keys() - after.keys():
        old[number] = (now, before[number])
    for number in after.keys() & old.keys():
        del old[number]
    while len(old) > MAX_KEPT_NAMES:
        del old[next(iter(old))]


def _add(totals: dict[RequestKey, RequestTotal], key: RequestKey, count: Count) -> None:
    cumulative, reached = [], 0
    for bucket in count.buckets[: len(LATENCY_BUCKETS)]:
        reached += bucket
        cumulative.append(reached)
    totals.setdefault(key, RequestTotal()).add(count.requests, count.nanoseconds / 1e9, cumulative)
