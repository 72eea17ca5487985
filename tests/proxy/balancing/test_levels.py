"""Shares by priority, health and panic: what must hold whatever the endpoints. The figures are Envoy's, which
test_as_envoy asks for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.clusters import Endpoint, Health
from meshd.model.levels import levels, weights

endpoint_sets = st.lists(
    st.builds(
        Endpoint,
        address=st.integers(1, 40).map(lambda i: f"10.0.0.{i}"),
        port=st.just(80),
        weight=st.integers(0, 5),
        health=st.sampled_from(Health),
        priority=st.integers(0, 3),
    ),
    max_size=12,
    unique_by=lambda endpoint: endpoint.address,
)


def _level(priority: int, healthy: int, unhealthy: int) -> list[Endpoint]:
    return [
        Endpoint(
            address=f"10.{priority}.0.{i}",
            port=80,
            health=Health.HEALTHY if i < healthy else Health.UNHEALTHY,
            priority=priority,
        )
        for i in range(healthy + unhealthy)
    ]


@given(endpoint_sets, st.integers(0, 100), st.sampled_from((100, 140, 200)))
def test_the_loads_make_a_hundred_and_nobody_without_weight_has_any(
    endpoints: list[Endpoint], panic: int, overprovisioning: int
) -> None:
    found = levels(endpoints, panic, overprovisioning)
    assert sum(level.load for level in found) in ((100,) if found else (0,))
    assert all(each.weight > 0 for level in found for each in level.endpoints)
    if any(each.health is Health.HEALTHY and each.weight for each in endpoints) and panic == 100:
        assert found


@given(endpoint_sets)
def test_without_panic_only_healthy_ones_take_requests(endpoints: list[Endpoint]) -> None:
    takers = [each for level in levels(endpoints, 0, 140) for each in level.endpoints]
    assert all(each.health is Health.HEALTHY for each in takers)


@given(endpoint_sets, st.integers(0, 100))
def test_combined_weights_keep_the_shares(endpoints: list[Endpoint], panic: int) -> None:
    found = levels(endpoints, panic, 140)
    combined = weights(found)
    total = sum(combined.values())
    assert total < 2**32  # the kernel's sum of them
    for level in found:
        share = sum(combined[each.address, each.port] for each in level.endpoints)
        assert abs(100 * share / total - level.load) < 0.01


def test_a_level_passes_on_what_its_healthy_ones_cannot_take() -> None:
    def loads(healthy: int, panic: int = 0) -> list[int]:
        both = _level(0, healthy, 10 - healthy) + _level(1, 10, 0)
        return [level.load for level in levels(both, panic, 140)]

    # Envoy's documentation of priority levels, the table for two of them.
    assert [loads(healthy) for healthy in (10, 8, 7, 6, 5, 3, 0)] == [
        [100], [100], [98, 2], [84, 16], [70, 30], [42, 58], [100],
    ]  # fmt: skip
    # No panic as long as the next level can take all of it, however few are left.
    assert loads(1, 50) == [14, 86]


def test_panic_uses_all() -> None:
    three_of_ten = _level(0, 3, 7)
    assert [len(level.endpoints) for level in levels(three_of_ten, 30, 140)] == [3]
    assert [len(level.endpoints) for level in levels(three_of_ten, 31, 140)] == [10]
    assert levels(_level(0, 0, 4), 0, 140) == ()
    assert [len(level.endpoints) for level in levels(_level(0, 0, 4), 1, 140)] == [4]


def test_who_drains_is_no_reason_to_panic() -> None:
    leaving = [Endpoint(address=f"10.0.1.{i}", port=80, health=Health.DRAINING) for i in range(9)]
    (level,) = levels(_level(0, 1, 0) + leaving, 50, 140)
    assert level == (100, tuple(_level(0, 1, 0)))
