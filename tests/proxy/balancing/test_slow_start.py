"""Slow start: a new endpoint's share grows over its window."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from meshd.model.cluster_policies import LeastRequest, RoundRobin, SlowStart
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.balancing.slow_start import factor

OLD = Endpoint(address="10.0.0.1", port=80)
NEW = Endpoint(address="10.0.0.2", port=80)
CONFIG = SlowStart(window=60)
POLICIES = (RoundRobin(slow_start=CONFIG), LeastRequest(slow_start=CONFIG))


def _set(*endpoints: Endpoint) -> EndpointSet:
    return EndpointSet(name="c", endpoints=endpoints)


def _grown(policy: RoundRobin | LeastRequest, now: float = 1000.0) -> Balancer:
    """A balancer of an old endpoint and one that has come at ``now``."""
    cluster = Cluster(name="c", balancing=policy)
    return Balancer(cluster, _set(OLD, NEW), Balancer(cluster, _set(OLD), now=0.0), now)


def _share(balancer: Balancer, now: float, count: int = 4000) -> float:
    """Of the new endpoint."""
    draw = random.Random(1).random
    found: Counter[str] = Counter()
    for _ in range(count):
        endpoint = balancer.pick(Selection(draw, now))
        assert endpoint is not None
        found[endpoint.address] += 1
    return found[NEW.address] / count


@pytest.mark.parametrize(
    ("age", "aggression", "least", "expected"),
    [
        (0.0, 1.0, 10.0, 0.1),
        (-1.0, 1.0, 0.0, 0.001 / 60),
        (15.0, 1.0, 10.0, 0.25),
        (15.0, 2.0, 10.0, 0.5),
        (30.0, 0.5, 10.0, 0.25),
        (59.9, 1.0, 10.0, 59.9 / 60),
        (60.0, 1.0, 10.0, 1.0),
        (1e9, 0.1, 10.0, 1.0),
    ],
)
def test_the_factor_is_envoys(age: float, aggression: float, least: float, expected: float) -> None:
    config = SlowStart(window=60, aggression=aggression, min_weight_percent=least)
    assert factor(config, age) == pytest.approx(expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_new_endpoints_share_grows(policy: RoundRobin | LeastRequest) -> None:
    def share(age: float) -> float:
        return _share(_grown(policy), 1000.0 + age)

    assert share(0) == pytest.approx(0.1 / 1.1, abs=0.01)
    assert share(30) == pytest.approx(0.5 / 1.5, abs=0.01)
    assert share(61) == pytest.approx(0.5, abs=0.05)


def test_the_kernel_has_no_weights_while_they_change() -> None:
    grown = _grown(RoundRobin(slow_start=CONFIG))
    assert grown.weights(now=1000.0) == {}
    assert grown.weights(now=1059.9) == {}
    assert grown.weights(now=1060.0) == {(OLD.address, 80): 1, (NEW.address, 80): 1}


def test_what_comes_with_the_cluster_is_not_new() -> None:
    cluster = Cluster(name="c", balancing=POLICIES[0])
    assert Balancer(cluster, _set(OLD, NEW), now=5.0).weights(now=5.0)


def test_an_endpoint_is_new_once() -> None:
    grown = _grown(POLICIES[0])
    third = Endpoint(address="10.0.0.3", port=80)
    more = Balancer(grown.cluster, _set(OLD, NEW, third), grown, 1030.0)
    assert _share(more, 1030.0) == pytest.approx(0.5 / 1.6, abs=0.01)
    assert more.weights(now=1089.0) == {}
    assert more.weights(now=1090.0)
    # It has gone and come back: it may have restarted.
    less = Balancer(more.cluster, _set(OLD, third), more, 1100.0)
    again = Balancer(less.cluster, _set(OLD, third, NEW), less, 1200.0)
    assert again.weights(now=1200.0) == {}


def test_an_endpoint_that_was_not_healthy_is_new() -> None:
    cluster = Cluster(name="c", balancing=POLICIES[0])
    ill = Endpoint(address=NEW.address, port=80, health=Health.UNHEALTHY)
    before = Balancer(cluster, _set(OLD, ill), now=0.0)
    assert Balancer(cluster, _set(OLD, NEW), before, 10.0).weights(now=10.0) == {}
