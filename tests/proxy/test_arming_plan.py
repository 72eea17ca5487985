from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.fast.arming_plan import Missing, Own, plan

A, B, C = ("10.0.0.1", 80), ("10.0.0.2", 80), ("fd00::3", 80)


def test_what_a_flow_has_no_connection_to_is_missing_with_its_weight() -> None:
    weights = {"web": {A: 1, B: 2, C: 4}, "other": {A: 5}}
    assert plan([Own("web", A)], weights, 7) == ([1], [Missing("web", 6)])
    assert plan([Own("web", A), Own("web", C)], weights, 6) == ([1, 4], [Missing("web", 2)])
    assert plan([Own("web", A), Own("other", A)], weights, 6) == ([1, 5], [Missing("web", 6)])


def test_nothing_is_missing_once_a_flow_has_all_or_as_many_as_it_may() -> None:
    weights = {"web": {A: 1, B: 2}}
    assert plan([Own("web", A), Own("web", B)], weights, 6) == ([1, 2], [])
    assert plan([Own("web", A)], weights, 0) == ([1], [])


def test_an_endpoint_that_takes_no_requests_has_no_share() -> None:
    assert plan([Own("web", A)], {"web": {B: 1}}, 7) == ([0], [])
    assert plan([Own("gone", A)], {"web": {A: 1}}, 7) == ([0], [])


endpoints = st.integers(0, 9).map(lambda number: (f"10.0.0.{number}", 80))


@given(st.dictionaries(endpoints, st.integers(1, 100), min_size=1), st.sets(endpoints), st.integers(1, 8))
def test_shares_and_what_is_missing_make_up_the_whole(
    weights: dict[tuple[str, int], int], had: set[tuple[str, int]], room: int
) -> None:
    own = [Own("web", endpoint) for endpoint in sorted(had)]
    shares, missing = plan(own, {"web": weights}, room)
    assert shares == [weights.get(each.endpoint, 0) for each in own]
    if any(shares):
        assert sum(shares) + sum(each.weight for each in missing) == sum(weights.values())
    else:
        assert missing == []
