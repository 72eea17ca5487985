"""How many retries a cluster's limits allow at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.cluster_policies import Limits
from proxy.exchanges.retry_budget import has_room
from proxy.load import Load, Resource

_some = st.integers(0, 30)


def _load(requests: int, pending: int, retries: int) -> Load:
    load = Load()
    for resource, count in (
        (Resource.REQUESTS, requests),
        (Resource.PENDING, pending),
        (Resource.RETRIES, retries),
    ):
        for _ in range(count):
            load.add(resource)
    return load


@given(_some, _some, _some)
def test_a_limit_is_of_retries_alone(requests: int, retries: int, limit: int) -> None:
    room = has_room(Limits(retries=limit), _load(requests, 0, retries))
    assert room == (limit == 0 or retries < limit)


@given(_some, _some, _some, st.floats(0.1, 100), _some, _some)
def test_a_budget_is_a_share_of_what_is_out_and_takes_the_limits_place(
    requests: int, pending: int, retries: int, percent: float, least: int, limit: int
) -> None:
    limits = Limits(retries=limit, retry_budget_percent=percent, retry_budget_min=least)
    room = has_room(limits, _load(requests, pending, retries))
    assert room == (retries < least or retries + 1 <= (requests + pending) * percent / 100)
