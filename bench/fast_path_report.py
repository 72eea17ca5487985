"""The fast path's table and ratios."""

from __future__ import annotations

from bench.report import Comparison, Results, medians, p50, ratios, throughput

DIRECT, MESHD, PAIR, ONE_OF_EACH, LOADED = "direct", "meshd", "pair of Envoys", "one of each", "loaded"
"""The ways."""
MANY, SINGLE, SINGLE_APART, LARGE, ACROSS, SCALE = (
    "c=64", "c=1", "c=1, two CPUs", "c=4, 1 MB", "c=64, two nodes", "c=64, scale",
)  # fmt: skip
"""The scenarios."""
_ENOUGH = 90.0
"""Percent of a run's requests that the kernel must carry for its figures to be the fast path's."""
COMPARISONS = (
    Comparison("c=64 throughput, of direct (goal: 1.4)", MANY, throughput, DIRECT),
    Comparison("c=64 throughput, of a pair of Envoys' (goal: 15)", MANY, throughput, PAIR),
    Comparison("c=1 p50, of direct (goal: at most 1)", SINGLE, p50, DIRECT),
    Comparison("c=1 p50 on two CPUs, of direct", SINGLE_APART, p50, DIRECT),
    Comparison("1 MB bodies throughput, of direct (goal: 1)", LARGE, throughput, DIRECT),
    Comparison("across nodes c=64 throughput, of direct (goal: 0.55)", ACROSS, throughput, DIRECT),
    Comparison(
        "1,000 services, 10,000 routes and flows: c=64 throughput, of that with one of each (goal: 0.9)",
        SCALE,
        throughput,
        ONE_OF_EACH,
        way=LOADED,
    ),
)


def markdown(results: Results) -> str:
    """A table of the medians, and the ratios under it."""
    lines = [
        "| scenario | way | req/s | lowest to highest | p50 | p99 | carried by the kernel "
        "| proxy CPU a request | steal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = medians(results)
    for scenario in (MANY, SINGLE, SINGLE_APART, LARGE, ACROSS, SCALE):
        for way in found:
            if (figures := found[way].get(scenario)) is None:
                continue
            carried = "-" if way in (DIRECT, PAIR) else f"{figures['carried_percent']:.1f}%"
            cpu = "-" if way == DIRECT else f"{figures['proxy_cpu_us']:.1f} us"
            lines.append(
                f"| {scenario} | {way} | {figures['requests_per_second']:,.0f} | "
                f"{figures['requests_per_second_min']:,.0f} to {figures['requests_per_second_max']:,.0f} | "
                f"{figures['p50_us']:.0f} us | {figures['p99_us']:.0f} us | {carried} | {cpu} | "
                f"{figures['steal_percent']:.1f}% |"
            )
    lines.append("")
    slow = [
        f"{way} ({scenario}: {figures['carried_percent']:.1f}%)"
        for way in (MESHD, ONE_OF_EACH, LOADED)
        for scenario, figures in found[way].items()
        if figures["carried_percent"] < _ENOUGH
    ]
    if slow:
        lines += [
            f"**Not the fast path's figures**, the kernel carried too few requests: {', '.join(slow)}",
            "",
        ]
    lines += [f"- {name}: **{value:.2f}**" for name, value in ratios(results, COMPARISONS).items()]
    return "\n".join(lines)
