"""Medians of the runs, as JSON and as a Markdown table."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence

from bench.load import Run

Results = Mapping[str, Mapping[str, Sequence[Run]]]
"""Runs by target and scenario."""

_MESHD, _ONE, _PAIR = "meshd", "one Envoy", "pair of Envoys"


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
                "steal_percent": statistics.median(r.steal for r in runs),
            }
            for scenario, runs in scenarios.items()
        }
        for target, scenarios in results.items()
    }


def ratios(results: Results) -> dict[str, float]:
    """meshd to its peers. Each is a median of ratios within a round, so that drift cancels."""

    def within_rounds(other: str, scenario: str, figure: Callable[[Run], float]) -> float:
        pairs = zip(results[_MESHD][scenario], results[other][scenario], strict=True)
        return statistics.median(figure(ours) / figure(theirs) for ours, theirs in pairs)

    def throughput(run: Run) -> float:
        return run.requests_per_second

    def p50(run: Run) -> float:
        return run.p50

    def proxy_cpu(run: Run) -> float:
        return run.proxy_cpu

    return {
        "c=64 throughput, of one Envoy's (goal: 0.9)": within_rounds(_ONE, "c=64", throughput),
        "c=64 throughput, of a pair's (goal: 2)": within_rounds(_PAIR, "c=64", throughput),
        "c=64 distinct heads throughput, of one Envoy's": within_rounds(_ONE, "c=64 distinct", throughput),
        "c=1 p50, of one Envoy's (goal: at most 1)": within_rounds(_ONE, "c=1", p50),
        "c=64 CPU time a request, of one Envoy's": within_rounds(_ONE, "c=64", proxy_cpu),
        "c=64 CPU time a request, of a pair's": within_rounds(_PAIR, "c=64", proxy_cpu),
        "c=64 distinct heads CPU time a request, of one Envoy's": within_rounds(
            _ONE, "c=64 distinct", proxy_cpu
        ),
    }


def document(
    results: Results, resident: Mapping[str, int], settings: Mapping[str, object]
) -> dict[str, object]:
    """All of it, for a JSON file."""
    return {
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "settings": dict(settings),
        "medians": medians(results),
        "ratios": ratios(results),
        "resident_bytes": dict(resident),
        "runs": {
            target: {
                scenario: [{name: getattr(run, name) for name in Run.__slots__} for run in runs]
                for scenario, runs in scenarios.items()
            }
            for target, scenarios in results.items()
        },
    }


def markdown(results: Results, resident: Mapping[str, int]) -> str:
    """A table of the medians, and the ratios under it."""
    lines = [
        "| path | p50 c=1 | req/s c=16 | req/s c=64 | req/s c=64, distinct heads "
        "| proxy CPU a request, c=64 | distinct | resident | steal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for target, scenarios in medians(results).items():
        steal = max(figures["steal_percent"] for figures in scenarios.values())
        one, some, many = scenarios["c=1"], scenarios["c=16"], scenarios["c=64"]
        distinct = scenarios["c=64 distinct"]
        same_cpu, distinct_cpu = (
            f"{figures['proxy_cpu_us']:.0f} us" if resident.get(target) else "-"
            for figures in (many, distinct)
        )
        size = f"{resident[target] / 1e6:.0f} MB" if resident.get(target) else "-"
        lines.append(
            f"| {target} | {one['p50_us']:.0f} us | {some['requests_per_second']:,.0f} | "
            f"{many['requests_per_second']:,.0f} | {distinct['requests_per_second']:,.0f} | "
            f"{same_cpu} | {distinct_cpu} | {size} | {steal:.1f}% |"
        )
    lines.append("")
    lines += [f"- {name}: **{value:.2f}**" for name, value in ratios(results).items()]
    return "\n".join(lines)
