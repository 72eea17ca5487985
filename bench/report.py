"""Medians of the runs and ratios of the ways, as JSON."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.load import Run

Results = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by target and scenario."""

Figure = Callable[[Run], float]


def throughput(run: Run) -> float:
    return run.requests_per_second


def p50(run: Run) -> float:
    return run.p50


def proxy_cpu(run: Run) -> float:
    return run.proxy_cpu


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure of one way in proportion to another's."""

    label: str
    """With its goal, if it has one."""
    scenario: str
    figure: Figure
    of: str
    """The way to compare with."""
    way: str = "meshd"


def medians(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """For each target and scenario: the median of each figure, and the range of throughput."""
    return {
        target: {
            scenario: {
                "requests_per_second": statistics.median(r.requests_per_second for r in runs),
                "requests_per_second_min": min(r.requests_per_second for r in runs),
                "requests_per_second_max": max(r.requests_per_second for r in runs),
                "p50_us": statistics.median(r.p50 for r in runs),
                "p99_us": statistics.median(r.p99 for r in runs),
                "proxy_cpu_us": statistics.median(r.proxy_cpu for r in runs),
                "carried_percent": statistics.median(r.carried for r in runs),
                "steal_percent": statistics.median(r.steal for r in runs),
            }
            for scenario, runs in scenarios.items()
        }
        for target, scenarios in results.items()
    }


def ratios(results: Results, comparisons: Sequence[Comparison]) -> dict[str, float]:
    """By label. Each is a median of ratios within a round, so that drift cancels."""

    def within_rounds(comparison: Comparison) -> float:
        ways = (results[way][comparison.scenario] for way in (comparison.way, comparison.of))
        pairs = zip(*ways, strict=True)
        return statistics.median(
            comparison.figure(ours) / comparison.figure(theirs) for ours, theirs in pairs
        )

    return {comparison.label: within_rounds(comparison) for comparison in comparisons}


def document(
    results: Results,
    comparisons: Sequence[Comparison],
    settings: Mapping[str, object],
    more: Mapping[str, object],
) -> dict[str, object]:
    """All of it, and ``more``, for a JSON file."""
    return {
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "settings": dict(settings),
        "medians": medians(results),
        "ratios": ratios(results, comparisons),
        **more,
        "runs": {
            target: {
                scenario: [{name: getattr(run, name) for name in Run.__slots__} for run in runs]
                for scenario, runs in scenarios.items()
            }
            for target, scenarios in results.items()
        },
    }
