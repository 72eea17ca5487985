"""The report's tables, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meshd.bench.report import words
from meshd.bench.report.loads import Load, Sweep, ours, ratio
from meshd.bench.results import BASES, PARTIES, Figure, Memory, Report, Row, Scenario

COMPARED: tuple[Figure, ...] = ("rps", "p99_us", "cpu_us_per_request")
"""The headline's figures."""
TO: dict[Scenario, str] = {"direct": "direct", "sidecar": "sidecar"}


class Table(NamedTuple):
    """Text by rows; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words_in: frozenset[int] = frozenset({0})
    """The columns that hold words and not figures."""


def by_load(report: Report, loads: Sequence[Load]) -> Table:
    """What meshd is, in proportion, under each load: also where it is worse."""
    rows = []
    for load in loads:
        row = ours(load)
        if row is None:
            continue
        found = [ratio(report, row, to, figure) for figure in COMPARED for to in BASES]
        cells = (words.times(one.value) if one else words.NONE for one in found)
        rows.append((words.load(load.case), *cells))
    head = ("load", *(f"{words.FIGURE[figure]} / {TO[to]}" for figure in COMPARED for to in BASES))
    return Table("meshd in proportion to direct and to a sidecar pair, under each load", head, tuple(rows))


def of_load(load: Load) -> Table:
    """Every scenario's figures under one load."""
    measured = ("req/s", "range", "p50", "p90", "p99", "p99.9", "max", "CPU/request", "mesh memory")
    head = ("scenario", *measured, "errors", "remarks")
    rows = tuple(
        (
            words.SCENARIO[row.scenario],
            words.count(row.rps),
            words.range_percent(row.rps, row.spread["rps"])
            if row.rps and "rps" in row.spread
            else words.NONE,
            *(words.time(us) for us in (row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us)),
            words.time(row.cpu_us_per_request),
            words.memory(row.mesh_rss_mb),
            f"{row.errors:,}",
            remarks(row),
        )
        for row in load.rows
    )
    return Table(f"Figures: {words.load(load.case)}", head, rows, frozenset({0, 11}))


def cpu_by_party(load: Load) -> Table | None:
    """Who used the CPU time; nothing if that is not known."""
    rows = tuple(
        (
            words.SCENARIO[row.scenario],
            *(words.time(row.cpu_by_party.get(party)) for party in PARTIES),
            words.time(row.cpu_us_per_request),
        )
        for row in load.measured
        if row.cpu_by_party
    )
    head = ("scenario", *(words.PARTY[party] for party in PARTIES), "all")
    return Table("CPU time per request, by party", head, rows) if rows else None


def of_sweep(sweep: Sweep) -> Table:
    """Latency at each rate."""
    head = ("scenario", "rate asked", "req/s", "p50", "p90", "p99", "p99.9", "max", "errors", "remarks")
    rows = tuple(
        (
            words.SCENARIO[row.scenario],
            words.count(row.rate),
            words.count(row.rps),
            *(words.time(us) for us in (row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us)),
            f"{row.errors:,}",
            remarks(row),
        )
        for row in sweep.rows
    )
    return Table(f"At fixed rates: {words.load(sweep.case)}", head, rows, frozenset({0, 9}))


def of_memory(found: Sequence[Memory]) -> Table | None:
    """Resident memory by scenario and pods; nothing if none was taken."""
    pods = sorted({one.pods for one in found})
    known = {(one.scenario, one.pods): one for one in found}
    rows = tuple(
        (
            words.SCENARIO[scenario],
            *(_memory(known.get((scenario, n))) for n in pods),
        )
        for scenario in words.SCENARIO
        if any(one.scenario == scenario for one in found)
    )
    head = ("scenario", *(f"{n} pod{'' if n == 1 else 's'}" for n in pods))
    caption = "Resident memory of the mesh on one node"
    if any(one.pss_mb is not None for one in found):
        caption += "; in parentheses with shared memory counted once (PSS)"
    return Table(caption, head, rows) if rows else None


def _memory(found: Memory | None) -> str:
    if found is None or found.pss_mb is None:
        return words.memory(found.rss_mb if found else None)
    return f"{words.memory(found.rss_mb)} ({words.memory(found.pss_mb)})"


def missing(report: Report) -> tuple[str, ...]:
    """What was not measured and why, a line each; equal reasons of one load together."""
    lines = list(report.settings.not_covered)
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in report.results:
        if row.not_measured:
            where = words.load(row.case) + (f" at {words.count(row.rate)} requests/s" if row.rate else "")
            by_reason.setdefault((where, row.not_measured), []).append(words.SCENARIO[row.scenario])
    for one in report.memory:
        if one.not_measured:
            where = f"memory with {one.pods} pods"
            by_reason.setdefault((where, one.not_measured), []).append(words.SCENARIO[one.scenario])
    lines += [
        f"{words.capital(where)}: {', '.join(names)}: {reason}."
        for (where, reason), names in by_reason.items()
    ]
    return tuple(lines)


def remarks(row: Row) -> str:
    """What a reader should know of a row: why it has no figures, its way, noisy rounds, a rate missed."""
    if row.not_measured:
        return f"not measured: {row.not_measured}"
    said = []
    if row.carried_percent is not None:
        said.append(f"{row.carried_percent:.4g} % in the kernel")
    if noisy := [one.round for one in row.rounds if one.noisy]:
        said.append(f"noisy: {_rounds(noisy)}")
    if failed := [one.round for one in row.rounds if one.errors]:
        said.append(f"left out for errors: {_rounds(failed)}")
    if missed_rate(row):
        said.append("could not keep up")
    return "; ".join(said)


def missed_rate(row: Row) -> bool:
    """Whether it answered clearly less than it was asked."""
    return bool(row.rate and row.rps is not None and row.rps < 0.98 * row.rate)


def _rounds(numbers: Iterable[int]) -> str:
    found = [str(number) for number in numbers]
    return f"round{'' if len(found) == 1 else 's'} {', '.join(found)}"
