from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from meshd.agent.health.outlier import Cause, Detector, EjectionCounts
from meshd.model.cluster_policies import Outlier
from meshd.model.outcomes import Run, Tally

ENDPOINTS = [("10.0.0.1", 80), ("10.0.0.2", 80), ("10.0.0.3", 80), ("10.0.0.4", 80), ("10.0.0.5", 80)]
A, B, C, D, E = ENDPOINTS


def _detector(policy: Outlier, endpoints: Iterable[tuple[str, int]] = ENDPOINTS) -> Detector:
    detector = Detector(policy, EjectionCounts())
    detector.set_endpoints(endpoints)
    return detector


def _tally(*statuses: int, seconds: float | None = 0.01) -> Tally:
    tally = Tally()
    for status in statuses:
        tally.count(status, seconds)
    return tally


def _out(detector: Detector) -> dict[tuple[str, int], Cause]:
    return {at: ejection.cause for at, ejection in detector.ejected()}


def test_so_many_5xx_in_a_row_eject() -> None:
    detector = _detector(Outlier())
    assert not detector.take(A, _tally(500, 500, 500, 500, 200), 0.0)
    assert not detector.take(A, _tally(500, 500, 500, 500), 0.0)
    assert detector.take(A, _tally(500), 0.0)
    assert _out(detector) == {A: Cause.CONSECUTIVE_5XX}


def test_rows_go_on_from_report_to_report_and_are_not_joined_across_a_good_answer() -> None:
    detector = _detector(Outlier(consecutive_5xx=4))
    assert not detector.take(A, _tally(500, 500), 0.0)
    assert not detector.take(A, _tally(500, 200, 500, 500), 0.0)
    assert not detector.take(A, _tally(500), 0.0)
    assert detector.take(A, _tally(503), 0.0)


def test_a_row_that_a_report_ends_counts_before_its_end() -> None:
    detector = _detector(Outlier(consecutive_5xx=3))
    assert not detector.take(A, _tally(500, 500), 0.0)
    assert detector.take(A, _tally(500, 200), 0.0)


def test_gateway_errors_have_a_count_of_their_own() -> None:
    policy = Outlier(consecutive_5xx=0, consecutive_gateway=2)
    detector = _detector(policy)
    assert not detector.take(A, _tally(500, 500, 500, 503, 500, 503), 0.0)
    assert detector.take(A, _tally(504), 0.0)
    assert _out(detector) == {A: Cause.CONSECUTIVE_GATEWAY}
    assert not _detector(Outlier(consecutive_5xx=0)).take(A, _tally(*[503] * 100), 0.0)


def test_an_ejection_lasts_longer_each_time_and_wears_off() -> None:
    policy = Outlier(consecutive_5xx=1, ejection_time=30.0, max_ejection_time=75.0, interval=10.0)
    detector = _detector(policy)
    now = 0.0
    for seconds in (30.0, 60.0, 75.0, 75.0):
        assert detector.take(A, _tally(500), now)
        assert not detector.end_interval(now + seconds - 1)
        now += seconds
        assert detector.end_interval(now)
        assert not _out(detector)
    # Envoy lets the multiplier grow until it is over the longest; each quiet interval takes one off.
    for _ in range(3):
        now += 10.0
        detector.end_interval(now)
    assert detector.take(A, _tally(500), now)
    assert not detector.end_interval(now + 59.0)
    assert detector.end_interval(now + 60.0)


def test_who_comes_back_starts_a_row_anew() -> None:
    detector = _detector(Outlier(consecutive_5xx=3, ejection_time=5.0))
    assert detector.take(A, _tally(500, 500, 500), 0.0)
    assert not detector.take(A, _tally(500, 500), 1.0)  # those that were out to it
    assert detector.end_interval(10.0)
    assert not detector.take(A, _tally(500, 500), 11.0)
    assert detector.take(A, _tally(500), 11.0)


def test_a_passed_probe_brings_it_back() -> None:
    detector = _detector(Outlier(consecutive_5xx=1))
    assert detector.take(A, _tally(500), 0.0)
    assert detector.probed_well(A, 1.0)
    assert not _out(detector)
    assert not detector.probed_well(A, 2.0)


def test_one_may_always_be_ejected_and_more_as_the_policy_says() -> None:
    counts = EjectionCounts()
    detector = Detector(Outlier(consecutive_5xx=1, max_ejected_percent=50), counts)
    detector.set_endpoints(ENDPOINTS)
    assert [detector.take(at, _tally(500), 0.0) for at in ENDPOINTS] == [True, True, False, False, False]
    assert (counts.overflows, counts.ejections.total()) == (3, 2)
    lonely = _detector(Outlier(consecutive_5xx=1, max_ejected_percent=0), [A, B])
    assert [lonely.take(at, _tally(500), 0.0) for at in (A, B)] == [True, False]


def test_who_is_removed_is_forgotten() -> None:
    detector = _detector(Outlier(consecutive_5xx=1))
    assert detector.take(A, _tally(500), 0.0)
    detector.set_endpoints([B, C])
    assert not detector.take(A, _tally(500), 0.0)
    detector.set_endpoints([A, B])
    assert not _out(detector)


def test_a_success_rate_far_under_the_mean_ejects() -> None:
    # Envoy's own example: rates of 50, 100, 100, 100 and 100 have the mean 90 and the deviation 20.
    policy = Outlier(consecutive_5xx=0, success_rate_factor=1900, max_ejected_percent=100)
    detector = _detector(policy)
    for at in (B, C, D, E):
        detector.take(at, _tally(*[200] * 100), 0.0)
    detector.take(A, _tally(*[200, 500] * 50), 0.0)
    assert detector.end_interval(10.0)
    assert _out(detector) == {A: Cause.SUCCESS_RATE}


def test_who_gave_no_answer_at_all_is_compared_too() -> None:
    detector = _detector(Outlier(consecutive_5xx=0, success_rate_factor=1900))
    for at in (B, C, D, E):
        detector.take(at, _tally(*[200] * 100), 0.0)
    detector.take(A, _tally(*[503] * 100, seconds=None), 0.0)
    assert detector.end_interval(10.0)
    assert _out(detector) == {A: Cause.SUCCESS_RATE}


def test_too_few_requests_or_endpoints_are_not_compared() -> None:
    policy = Outlier(consecutive_5xx=0, success_rate_factor=1900, latency_factor=2000)
    detector = _detector(policy)
    for at in (B, C, D, E):
        detector.take(at, _tally(*[200] * 100), 0.0)
    detector.take(A, _tally(*[500] * 99, seconds=9.0), 0.0)
    assert not detector.end_interval(10.0)
    # What came in an earlier interval is not kept for the next.
    detector.take(A, _tally(500), 11.0)
    assert not detector.end_interval(20.0)
    few = _detector(policy, [A, B])
    few.take(A, _tally(*[500] * 100), 0.0)
    few.take(B, _tally(*[200] * 100), 0.0)
    assert not few.end_interval(10.0)


def test_a_mean_latency_far_over_the_median_ejects() -> None:
    policy = Outlier(consecutive_5xx=0, latency_factor=3000, success_rate_requests=10)
    detector = _detector(policy)
    for at, seconds in zip(ENDPOINTS, (0.1, 0.031, 0.03, 0.03, 0.02), strict=True):
        detector.take(at, _tally(*[200] * 10, seconds=seconds), 0.0)
    assert detector.end_interval(10.0)
    assert _out(detector) == {A: Cause.LATENCY}


def test_an_ejection_is_taken_over_from_an_earlier_agent() -> None:
    policy = Outlier(consecutive_5xx=1, ejection_time=30.0)
    earlier = _detector(policy)
    assert earlier.take(A, _tally(500), 0.0)
    ejection = earlier.ejection(A)
    assert ejection is not None
    detector = _detector(policy)
    detector.restore(A, ejection)
    assert not detector.end_interval(29.0)
    assert detector.end_interval(30.0)
    assert detector.take(A, _tally(500), 30.0)
    assert not detector.end_interval(89.0)


_statuses = st.lists(st.sampled_from((200, 404, 500, 502, 503)), max_size=12)


@given(st.lists(_statuses, max_size=8), st.integers(1, 6))
def test_reports_in_pieces_eject_exactly_when_the_whole_row_would(
    reports: list[list[int]], threshold: int
) -> None:
    detector = _detector(Outlier(consecutive_5xx=threshold))
    statuses = list(itertools.chain.from_iterable(reports))
    ejected = [detector.take(A, _tally(*report), 0.0) for report in reports]
    rows = (len(list(row)) for bad, row in itertools.groupby(s >= 500 for s in statuses) if bad)
    assert any(ejected) == (max(rows, default=0) >= threshold)


_events = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.sampled_from(ENDPOINTS), _statuses),
        st.tuples(st.just("interval"), st.floats(0.1, 40.0), st.none()),
        st.tuples(st.just("probe"), st.sampled_from(ENDPOINTS), st.none()),
        st.tuples(st.just("endpoints"), st.sets(st.sampled_from(ENDPOINTS)), st.none()),
    ),
    max_size=40,
)


@given(_events, st.integers(0, 100))
def test_never_more_are_out_than_may_be_and_all_come_back(
    events: list[tuple[str, object, object]], percent: int
) -> None:
    policy = Outlier(
        consecutive_5xx=2, success_rate_factor=500, success_rate_requests=3, max_ejected_percent=percent
    )
    detector = _detector(policy)
    now = 0.0
    there = set(ENDPOINTS)
    for kind, what, more in events:
        before = set(_out(detector))
        match kind:
            case "report":
                assert isinstance(what, tuple)
                assert isinstance(more, list)
                took = detector.take(what, _tally(*more), now)
                assert took == (set(_out(detector)) - before == {what})
            case "interval":
                assert isinstance(what, float)
                now += what
                changed = detector.end_interval(now)
                assert changed or set(_out(detector)) == before
            case "probe":
                assert isinstance(what, tuple)
                assert detector.probed_well(what, now) == (what in before)
            case "endpoints":
                assert isinstance(what, set)
                there = what
                detector.set_endpoints(there)
        out = _out(detector)
        assert set(out) <= there
        new = set(out) - before
        if new:
            assert len(out) <= max(1, math.floor(percent * len(there) / 100))
    for _, ejection in detector.ejected():
        assert now < ejection.ends <= now + policy.max_ejection_time
    detector.end_interval(now + policy.max_ejection_time)
    assert not _out(detector)


def test_a_run_tells_what_the_next_report_needs() -> None:
    run = Run()
    for error in (True, True, False, True):
        run.count(error)
    assert run == Run(first=2, last=1, most=2, broken=True)
