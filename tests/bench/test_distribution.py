"""Percentiles of known distributions, and wrk's latencies without wrk's additions."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.bench import distribution


def exponential(count: int, mean: float) -> list[int]:
    """Its quantiles at evenly spaced steps: their own percentiles are known."""
    return [round(-mean * math.log(1 - (i + 0.5) / count)) for i in range(count)]


def test_percentiles_of_a_known_distribution() -> None:
    found = distribution.percentiles(distribution.histogram(Counter(exponential(100_000, 2000.0)).items()))
    for quantile, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99), (0.999, found.p999)):
        assert value == pytest.approx(-2000 * math.log(1 - quantile), rel=0.005)
    assert found.max == pytest.approx(-2000 * math.log(0.5 / 100_000), rel=0.001)


def test_points_rise_to_the_greatest_value_and_agree_with_the_percentiles() -> None:
    histogram = distribution.histogram(Counter(exponential(10_000, 500.0)).items())
    points = distribution.points(histogram)
    assert points == tuple(sorted(points))
    assert all(one[1] <= other[1] for one, other in itertools.pairwise(points))
    assert points[0][0] == 0.0
    assert points[-1] == (1.0, distribution.percentiles(histogram).max)
    at_90 = next(value for quantile, value in points if quantile == pytest.approx(0.9))
    assert at_90 == distribution.percentiles(histogram).p90
    assert distribution.points(distribution.histogram(())) == ()


def test_merged_is_all_of_both() -> None:
    one, other = (distribution.histogram([(value, 100)]) for value in (10, 1000))
    both = distribution.percentiles(distribution.merged([one, other]))
    assert (both.p50, both.p99) == (10, 1000)


def as_wrk_reports(latencies: dict[int, int], interval: int) -> dict[int, int]:
    """What wrk 4 makes of them: stats_correct of its src/stats.c, with a table instead of an array."""
    data = Counter(latencies)
    for value in range(interval * 2, max(latencies, default=0) + 1):
        count, added = data[value], value - interval
        while count and added > interval:
            data[added] += count
            added -= interval
    return {value: count for value, count in data.items() if count}


@given(
    st.dictionaries(st.integers(1, 3000), st.integers(1, 50), min_size=1, max_size=30),
    st.integers(1, 400),
)
def test_what_wrk_adds_is_taken_out(latencies: dict[int, int], interval: int) -> None:
    assert distribution.as_measured(as_wrk_reports(latencies, interval), interval) == latencies


def test_latencies_that_wrk_cannot_have_reported_are_refused() -> None:
    with pytest.raises(ValueError, match="missing"):
        distribution.as_measured({1000: 5, 900: 1}, 100)
