"""A report's rows load by load, and which of them is its headline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from meshd.bench.results import (
    PLACEMENTS,
    PROTOCOLS,
    SCENARIOS,
    Case,
    Figure,
    Memory,
    Ratio,
    Report,
    Row,
    Scenario,
    with_scenario,
)

_HEADLINE_CONNECTIONS = 64


class Load(NamedTuple):
    """What every scenario was asked for, and what each made of it."""

    case: Case
    """Its scenario is direct, whether that was run or not."""
    rows: tuple[Row, ...]
    """In the order of SCENARIOS."""

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows that have figures."""
        return tuple(row for row in self.rows if not row.not_measured)

    def row(self, scenario: Scenario) -> Row | None:
        """A scenario's row, if it has figures."""
        return next((row for row in self.measured if row.scenario == scenario), None)


class Sweep(NamedTuple):
    """One load at several rates."""

    case: Case
    rows: tuple[Row, ...]
    """In the order of SCENARIOS, then of the rates."""


def loads(report: Report) -> list[Load]:
    """The closed-loop loads; the headline is the first."""
    found = [Load(case, rows) for case, rows in _grouped(r for r in report.results if r.rate is None)]
    return sorted(found, key=_order)


def sweeps(report: Report) -> list[Sweep]:
    """The open-loop loads."""
    open_loop = [row for row in report.results if row.rate is not None]
    return [Sweep(case, rows) for case, rows in _grouped(open_loop)]


def ours(load: Load) -> Row | None:
    """The row that the headline is about: meshd's fast path, else its slow path."""
    return load.row("meshd-fast") or load.row("meshd-slow")


def ratio(report: Report, row: Row, to: Scenario, figure: Figure) -> Ratio | None:
    """A row's ratio to another scenario."""
    wanted = row.case
    for found in report.ratios:
        if found.to == to and found.figure == figure and _case(found) == wanted:
            return found
    return None


def _case(found: Case) -> Case:
    return Case(**{name: getattr(found, name) for name in Case.__struct_fields__})


def _grouped(rows: Iterable[Row]) -> list[tuple[Case, tuple[Row, ...]]]:
    groups: dict[Case, list[Row]] = {}
    for row in rows:
        groups.setdefault(replace(with_scenario(row.case, "direct"), rate=None), []).append(row)
    return [(case, tuple(sorted(found, key=_in_order))) for case, found in groups.items()]


def _in_order(row: Row) -> tuple[int, float]:
    return SCENARIOS.index(row.scenario), row.rate or 0.0


def _order(load: Load) -> tuple[float, ...]:
    """Most scenarios measured first: the headline may not be a load that most could not be measured under.
    Then the plainest: same node, keep-alive, routed, about 64 connections, small bodies."""
    case = load.case
    return (
        -len(load.measured),
        PLACEMENTS.index(case.placement),
        PROTOCOLS.index(case.protocol),
        not case.route,
        abs(math.log(case.connections / _HEADLINE_CONNECTIONS)),
        case.body_bytes,
    )


def shared_once(found: Iterable[Memory]) -> bool:
    """Whether all that is known of memory is also known with shared memory counted once (PSS).

    That is the fair figure to compare by: a hundred Envoys have one binary.
    """
    return all(one.pss_mb is not None for one in found if one.rss_mb is not None)


def held(found: Sequence[Memory]) -> list[tuple[Scenario, int, float]]:
    """Scenario, pods and megabytes of all that is known, PSS where all have it, else RSS."""
    fair = shared_once(found)
    known = ((one.scenario, one.pods, one.pss_mb if fair else one.rss_mb) for one in found)
    return [(scenario, pods, mb) for scenario, pods, mb in known if mb is not None]


def scenarios(rows: Sequence[Row]) -> tuple[Scenario, ...]:
    """Those that the rows are of, in their order."""
    present = {row.scenario for row in rows}
    return tuple(scenario for scenario in SCENARIOS if scenario in present)
