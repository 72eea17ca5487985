"""Latency distributions: HdrHistograms of (microseconds, count), and what is read off them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

_LEAST, _MOST, _DIGITS = 1, 60_000_000, 3
"""Microseconds; a value is kept to three significant digits."""
_POINTS_A_DECADE = 8
"""Of 1 - quantile, in a distribution's points."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Microseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


def histogram(counts: Iterable[tuple[int, int]]) -> HdrHistogram:
    """Of (microseconds, count) pairs; what is beyond a minute counts as a minute."""
    found = HdrHistogram(_LEAST, _MOST, _DIGITS)
    for value, count in counts:
        found.record_value(min(max(value, _LEAST), _MOST), count)
    return found


def percentiles(of: HdrHistogram) -> Percentiles:
    """The figures of a histogram that is not empty."""
    p50, p90, p99, p999 = (float(of.get_value_at_percentile(p)) for p in (50, 90, 99, 99.9))
    return Percentiles(p50, p90, p99, p999, float(of.get_max_value()))


def points(of: HdrHistogram) -> tuple[tuple[float, float], ...]:
    """The distribution for a plot: (quantile, microseconds), both rising, as far as there are values.

    Evenly spaced in the logarithm of 1 - quantile: that is the scale on which tails are drawn.
    """
    total = of.get_total_count()
    if not total:
        return ()
    quantiles = [0.0]
    while (quantile := 1 - 10 ** (-len(quantiles) / _POINTS_A_DECADE)) < 1 - 1 / total:
        quantiles.append(quantile)
    found = [(quantile, float(of.get_value_at_percentile(100 * quantile))) for quantile in quantiles]
    return (*found, (1.0, float(of.get_max_value())))


def merged(histograms: Sequence[HdrHistogram]) -> HdrHistogram:
    """All of several."""
    found = HdrHistogram(_LEAST, _MOST, _DIGITS)
    for one in histograms:
        found.add(one)
    return found


def as_measured(counts: Mapping[int, int], interval: int) -> dict[int, int]:
    """wrk's latencies as its connections saw them: without the samples that wrk 4 adds.

    For each latency n of more than two ``interval`` (microseconds between two answers of a connection, on
    the average) wrk adds one at n - interval, n - 2 interval, … down to ``interval`` (stats_correct in its
    src/stats.c), for requests that it thinks it did not send. A closed loop has no such requests; what they
    would have met is what the open loop measures. The additions of a latency depend on greater ones only, so
    they can be taken out from the top. Raises ValueError when these are no such latencies.
    """
    left = dict(counts)
    for value in sorted(counts, reverse=True):
        count = left[value]
        if count < 0:
            raise ValueError(f"{-count} latencies of {value} us are missing")
        if count == 0 or interval < 1 or value < 2 * interval:
            continue
        for added in range(value - interval, interval, -interval):
            left[added] = left.get(added, 0) - count
    if any(count < 0 for count in left.values()):
        raise ValueError("latencies are missing")
    return {value: count for value, count in left.items() if count}
