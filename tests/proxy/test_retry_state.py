"""What a retry policy allows, and how long it has a request wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.request_policies import Retry
from proxy.exchanges.retry_state import Cause, RetryState, asks_for

_seconds = st.floats(0.001, 10)
_random = st.floats(0, 1, exclude_max=True)


@given(st.booleans(), st.booleans())
def test_a_reset_holds_a_connect_failure(connect_failure: bool, reset: bool) -> None:
    state = RetryState(Retry(connect_failure=connect_failure, reset=reset))
    assert state.asks(Cause.CONNECT) == (connect_failure or reset)
    assert state.asks(Cause.RESET) == reset


@given(st.sets(st.integers(400, 599)), st.integers(200, 599), st.sets(st.integers(1, 16)), st.integers(0, 16))
def test_statuses_are_those_of_the_policy(
    statuses: set[int], status: int, grpc_statuses: set[int], grpc_status: int
) -> None:
    policy = Retry(statuses=tuple(statuses), grpc_statuses=tuple(grpc_statuses))
    assert asks_for(policy, status, None) == (status in statuses)
    assert asks_for(policy, status, str(grpc_status)) == (status in statuses or grpc_status in grpc_statuses)


@given(st.integers(0, 20))
def test_there_are_as_many_tries_as_the_policy_says(attempts: int) -> None:
    state = RetryState(Retry(attempts=attempts))
    assert not state.has_begun
    assert [state.take() for _ in range(attempts + 2)] == [True] * attempts + [False, False]
    assert state.has_begun == (attempts > 0)


@given(_seconds, _seconds, st.floats(0, 5), st.lists(_random, min_size=1, max_size=100))
def test_waits_double_to_the_most_and_are_never_under_the_least(
    first: float, most: float, least: float, randoms: list[float]
) -> None:
    policy = Retry(attempts=1000, backoff=first, max_backoff=most, least_backoff=least)
    state = RetryState(policy)
    interval = first
    for random in randoms:
        assert state.take()
        bound = min(interval, most)
        assert state.backoff(random) == least + bound * random
        assert state.patience(random) == max(least, bound * (0.5 + random))
        interval *= 2


def test_thousands_of_tries_overflow_nothing() -> None:
    state = RetryState(Retry(attempts=5000, max_backoff=1.0))
    while state.take():
        assert state.backoff(0.5) <= 0.5
