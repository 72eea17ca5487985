"""What the report says first, and what stands under all of it: method and machine."""

from __future__ import annotations

from typing import NamedTuple

from meshd.bench.report import words
from meshd.bench.report.loads import Load, held, ours, ratio
from meshd.bench.report.tables import COMPARED, Table
from meshd.bench.results import (
    BASES,
    HIGHER_IS_BETTER,
    NOISY_STEAL_PERCENT,
    Memory,
    Report,
    Scenario,
)

AGAINST: dict[Scenario, str] = {"direct": "no mesh", "sidecar": "a pair of sidecars"}
_HEADLINE_PODS = 100


class Finding(NamedTuple):
    """One ratio of the headline."""

    to: Scenario
    value: str
    """22.3×"""
    what: str
    detail: str
    better: bool


def findings(report: Report, load: Load) -> tuple[Finding, ...]:
    """meshd in proportion to each base under the headline's load, then its memory's."""
    row = ours(load)
    if row is None:
        return ()
    found = []
    for to in reversed(BASES):
        for figure in COMPARED:
            one = ratio(report, row, to, figure)
            if one is None:
                continue
            base = load.row(to)
            figures = (words.figure(figure, r.figure(figure)) for r in (row, base) if r)
            unit = " req/s" if figure == "rps" else ""
            found.append(
                Finding(
                    to,
                    words.times(one.value),
                    words.FIGURE[figure],
                    f"{' against '.join(figures)}{unit}; {words.spread(one.spread)}",
                    (one.value >= 1) == (figure in HIGHER_IS_BETTER),
                )
            )
    return (*found, *_memory(report.memory, row.scenario))


def _memory(found: tuple[Memory, ...], mine: Scenario) -> tuple[Finding, ...]:
    known = {(scenario, pods): mb for scenario, pods, mb in held(found)}
    both = [pods for _, pods in known if {(mine, pods), ("sidecar", pods)} <= known.keys()]
    if not both:
        return ()
    pods = min(both, key=lambda n: abs(n - _HEADLINE_PODS))
    here, there = known[mine, pods], known["sidecar", pods]
    if not there:
        return ()
    detail = f"{words.memory(here)} against {words.memory(there)} with {pods} pods on a node"
    return (Finding("sidecar", words.times(here / there), "memory", detail, here <= there),)


def table(report: Report, load: Load) -> Table:
    """The findings one by one, with the figures that they are the ratios of."""
    rows = tuple(
        (f"{one.what}, against {AGAINST[one.to]}", one.value, "better" if one.better else "worse", one.detail)
        for one in findings(report, load)
    )
    head = (name(load), "ratio", "", "figures")
    return Table("The headline's figures", head, rows, frozenset({0, 2, 3}))


def name(load: Load) -> str:
    """Who the headline is about."""
    row = ours(load)
    return words.SCENARIO[row.scenario] if row else ""


def sentences(report: Report, load: Load) -> list[str]:
    """The findings, a sentence for each base."""
    found = findings(report, load)
    said = []
    for to in reversed(BASES):
        parts = [f"{one.value} the {one.what}" for one in found if one.to == to]
        if parts:
            said.append(f"Against {AGAINST[to]}, {name(load)} has {_and(parts)}.")
    return said


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def method(report: Report) -> tuple[str, ...]:
    """How it was measured, in five lines."""
    settings = report.settings
    rounds = f"{settings.rounds} interleaved round{'' if settings.rounds == 1 else 's'}"
    pinned = "; ".join(f"{who} on {where}" for who, where in settings.cpu_placement.items())
    placed = f"CPUs: {pinned}." if pinned else "Processes were not pinned to CPUs."
    accounted = (
        "CPU time is not accounted on a cluster; latency and throughput are the load tool's."
        if report.machine.cluster
        else "CPU time per request is from each party's cgroup (cpu.stat), "
        "the kernel's from /proc/stat (softirq)."
    )
    return (
        "Closed loop: each connection asks again when it has its answer. Open loop: requests are due at a "
        "fixed rate and latency counts from then, so a stall is charged to all that it held up.",
        f"{rounds} of {settings.duration_s:g} s after {settings.warm_up_s:g} s "
        "of warm-up: in each round every scenario runs in turn. Figures are medians over the rounds with "
        "their range; ratios are medians of the ratios within a round.",
        "All scenarios have the same pods, apps and config. " + placed,
        accounted,
        "A request without the right answer is an error, and a round with an error is in no figure. A round "
        f"in which the hypervisor took over {NOISY_STEAL_PERCENT:g} % of CPU time is marked as noisy.",
    )


def machine(report: Report) -> tuple[tuple[str, str], ...]:
    """Where it was measured, and with what: names and values."""
    found = report.machine
    versions = ", ".join(f"{tool} {version}" for tool, version in found.versions.items())
    facts = [
        ("Date", report.date),
        ("CPU", f"{found.cpus} × {found.cpu_model}"),
        ("Memory", words.memory(found.memory_mb)),
        ("Kernel", found.kernel),
        ("Distribution", found.distribution),
        ("Cluster", found.cluster),
        ("Versions", versions),
        *report.settings.config.items(),
        ("Command", report.settings.command),
    ]
    return tuple((key, value) for key, value in facts if value)


def headings(report: Report) -> tuple[str, str]:
    """The title, and a line under it."""
    found = report.machine
    where = found.cluster or f"{found.cpus} CPUs"
    return (
        "meshd bench: what a mesh costs",
        f"{report.date[:10]} · {where} · kernel {found.kernel} · meshd {found.versions.get('meshd', '?')}",
    )


PARTIAL = "Partial: the run was ended early. Rows are missing or have fewer rounds."
