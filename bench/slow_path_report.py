"""The slow path's table and ratios."""

from __future__ import annotations

from collections.abc import Mapping

from bench.report import Comparison, Results, medians, p50, proxy_cpu, ratios, throughput

_ONE, _PAIR = "one Envoy", "pair of Envoys"
COMPARISONS = (
    Comparison("c=64 throughput, of one Envoy's (goal: 0.9)", "c=64", throughput, _ONE),
    Comparison("c=64 throughput, of a pair's (goal: 2)", "c=64", throughput, _PAIR),
    Comparison("c=64 distinct heads throughput, of one Envoy's", "c=64 distinct", throughput, _ONE),
    Comparison("c=1 p50, of one Envoy's (goal: at most 1)", "c=1", p50, _ONE),
    Comparison("c=64 CPU time a request, of one Envoy's", "c=64", proxy_cpu, _ONE),
    Comparison("c=64 CPU time a request, of a pair's", "c=64", proxy_cpu, _PAIR),
    Comparison("c=64 distinct heads CPU time a request, of one Envoy's", "c=64 distinct", proxy_cpu, _ONE),
)


def markdown(results: Results, resident: Mapping[str, int]) -> str:
    """A table of the medians, and the ratios under it.

    ``resident``: bytes that each way's proxies hold.
    """
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
    lines += [f"- {name}: **{value:.2f}**" for name, value in ratios(results, COMPARISONS).items()]
    return "\n".join(lines)
