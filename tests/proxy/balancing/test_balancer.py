"""Endpoint picks: shares by weight, only healthy ones, the less busy of two."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshd.model.cluster_policies import Balancing, LeastRequest, RandomEndpoint, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection

POLICIES: tuple[Balancing, ...] = (RoundRobin(), LeastRequest(), RandomEndpoint())


def endpoint(last: int, weight: int = 1, health: Health = Health.HEALTHY) -> Endpoint:
    return Endpoint(address=f"10.0.0.{last}", port=80, weight=weight, health=health)


def balancer(policy: Balancing, *endpoints: Endpoint) -> Balancer:
    return Balancer(Cluster(name="c", balancing=policy), EndpointSet(name="c", endpoints=endpoints))


def picks(balancer: Balancer, count: int, seed: int = 1, ipv6: bool = False) -> Counter[str]:
    draw = random.Random(seed).random
    found: Counter[str] = Counter()
    for _ in range(count):
        picked = balancer.pick(Selection(draw, ipv6=ipv6))
        assert picked is not None
        found[picked.address] += 1
    return found


@pytest.mark.parametrize("policy", POLICIES)
def test_only_healthy_endpoints_with_weight(policy: Balancing) -> None:
    several = balancer(
        policy,
        endpoint(1, health=Health.DRAINING),
        endpoint(2),
        endpoint(3, health=Health.UNHEALTHY),
        endpoint(4, weight=0),
    )
    assert picks(several, 20) == {"10.0.0.2": 20}


@pytest.mark.parametrize("policy", POLICIES)
def test_no_healthy_endpoint(policy: Balancing) -> None:
    assert balancer(policy).pick(Selection(random.random)) is None
    assert balancer(policy, endpoint(1, health=Health.UNHEALTHY)).pick(Selection(random.random)) is None


@pytest.mark.parametrize("seed", range(20))
def test_round_robin_visits_each_once_in_a_turn(seed: int) -> None:
    several = balancer(RoundRobin(), *(endpoint(i) for i in range(5)))
    assert set(picks(several, 5, seed).values()) == {1}


def test_round_robin_starts_anywhere() -> None:
    starts = {
        next(iter(picks(balancer(RoundRobin(), *map(endpoint, range(4))), 1, seed))) for seed in range(50)
    }
    assert len(starts) == 4


@pytest.mark.parametrize("seed", range(20))
def test_weighted_round_robin_keeps_shares_in_every_stretch(seed: int) -> None:
    several = balancer(RoundRobin(), endpoint(1, 5), endpoint(2, 2), endpoint(3, 1))
    found = picks(several, 8, seed)
    for address, weight in (("10.0.0.1", 5), ("10.0.0.2", 2), ("10.0.0.3", 1)):
        assert abs(found[address] - weight) <= 1
    found += picks(several, 7992, seed)
    assert abs(found["10.0.0.1"] - 5000) <= 5
    assert abs(found["10.0.0.3"] - 1000) <= 5


def test_random_follows_weights() -> None:
    several = balancer(RandomEndpoint(), endpoint(1, 3), endpoint(2, 1))
    found = picks(several, 4000)
    assert 2850 < found["10.0.0.1"] < 3150


def test_random_at_the_edges_of_its_range() -> None:
    several = balancer(RandomEndpoint(), endpoint(1), endpoint(2))
    first, last = several.pick(Selection(lambda: 0.0)), several.pick(Selection(lambda: 1 - 2**-53))
    assert first is not None
    assert last is not None
    assert (first.address, last.address) == ("10.0.0.1", "10.0.0.2")


def test_least_request_shuns_the_busy() -> None:
    several = balancer(LeastRequest(), endpoint(1), endpoint(2))
    for _ in range(5):
        several.started(endpoint(1))
    # The busy one is picked only when both draws fall on it.
    found = picks(several, 4000)
    assert 850 < found["10.0.0.1"] < 1150
    for _ in range(5):
        several.finished(endpoint(1))
    assert 1800 < picks(several, 4000)["10.0.0.1"] < 3200


def test_least_request_takes_turns_by_weight_where_weights_differ() -> None:
    several = balancer(LeastRequest(), endpoint(1, 4), endpoint(2, 1))
    assert abs(picks(several, 5000)["10.0.0.1"] - 4000) <= 4
    for _ in range(3):
        several.started(endpoint(1))  # its weight is a quarter now: as much as the other's
    assert abs(picks(several, 5000)["10.0.0.1"] - 2500) <= 4


@pytest.mark.parametrize("policy", POLICIES)
def test_a_caller_gets_endpoints_of_the_family_it_called(policy: Balancing) -> None:
    six = Endpoint(address="fd00::1", port=80)
    both = balancer(policy, endpoint(1), six)
    for _ in range(4):
        assert both.pick(Selection(random.random)) == endpoint(1)
        assert both.pick(Selection(random.random, ipv6=True)) == six
    assert balancer(policy, endpoint(1)).pick(Selection(random.random, ipv6=True)) == endpoint(1)
    assert balancer(policy, six).pick(Selection(random.random, ipv6=False)) == six


def test_counts_survive_a_change_of_endpoints_and_end_at_nothing() -> None:
    old = balancer(LeastRequest(), endpoint(1), endpoint(2))
    old.started(endpoint(1))
    new = Balancer(old.cluster, EndpointSet(name="c", endpoints=(endpoint(1), endpoint(3))), old)
    assert new.active(endpoint(1)) == 1
    old.finished(endpoint(1))
    assert new.active(endpoint(1)) == 0
    new.finished(endpoint(1))
    assert new.active(endpoint(1)) == 0


def test_a_caller_is_given_an_endpoint_of_the_family_that_it_called() -> None:
    both = balancer(
        RoundRobin(),
        Endpoint(address="10.0.0.1", port=80),
        Endpoint(address="fd00::1", port=80),
        Endpoint(address="10.0.0.2", port=80),
    )
    assert picks(both, 9).keys() == {"10.0.0.1", "10.0.0.2"}
    assert picks(both, 9, ipv6=True).keys() == {"fd00::1"}


def test_a_cluster_of_one_family_serves_callers_of_both() -> None:
    four = balancer(RandomEndpoint(), Endpoint(address="10.0.0.1", port=80))
    six = balancer(LeastRequest(), Endpoint(address="fd00::1", port=80))
    for only in (four, six):
        assert picks(only, 3) == picks(only, 3, ipv6=True)
