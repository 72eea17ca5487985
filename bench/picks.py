"""What a pick and a route decision cost: ``python -m bench.picks``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from multidict import CIMultiDict

from meshd.model.cluster_policies import (
    Balancing,
    LeastRequest,
    Maglev,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    SlowStart,
)
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    Forward,
    PathExact,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.requests.request_head import RequestHead
from proxy.routing.decision import RouteTable

_ENDPOINTS = (10, 1000)
_ROUTES = 1000
_CALLS = 20_000
_NOW = 1000.0

_SLOW = SlowStart(window=60)
_POLICIES: dict[str, tuple[Balancing, bool]] = {
    "round robin": (RoundRobin(), False),
    "round robin, weights": (RoundRobin(), True),
    "round robin, slow start": (RoundRobin(slow_start=_SLOW), False),
    "least request": (LeastRequest(), False),
    "least request, weights": (LeastRequest(), True),
    "random": (RandomEndpoint(), True),
    "ring hash": (RingHash(), True),
    "Maglev": (Maglev(), True),
}


def _endpoints(count: int, weighted: bool) -> EndpointSet:
    """In two levels, of which the first takes all."""
    return EndpointSet(
        name="c",
        endpoints=tuple(
            Endpoint(
                address=f"10.{i // 62500}.{i // 250 % 250}.{i % 250 + 1}",
                port=80,
                weight=1 + i % 3 if weighted else 1,
                priority=i % 10 == 9,
            )
            for i in range(count)
        ),
    )


def _balancer(policy: Balancing, endpoints: EndpointSet) -> Balancer:
    """One whose last endpoint is new."""
    cluster = Cluster(name="c", balancing=policy)
    fewer = EndpointSet(name="c", endpoints=endpoints.endpoints[:1])
    return Balancer(cluster, endpoints, Balancer(cluster, fewer), _NOW)


def _per_call(call: Callable[[], object], rounds: int) -> float:
    """Seconds, the median of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in itertools.repeat(None, _CALLS):
            call()
        found.append((time.perf_counter() - began) / _CALLS)
    return statistics.median(found)


def _picks(rounds: int) -> list[str]:
    lines = [
        "| policy | endpoints | a pick | from the endpoints to the first pick |",
        "| --- | ---: | ---: | ---: |",
    ]
    draw = random.Random(1)
    for name, (policy, weighted) in _POLICIES.items():
        for count in _ENDPOINTS:
            endpoints = _endpoints(count, weighted)
            began = time.perf_counter()
            balancer = _balancer(policy, endpoints)
            balancer.pick(Selection(draw.random, _NOW, hash=0))
            made = time.perf_counter() - began

            def pick(balancer: Balancer = balancer) -> None:
                balancer.pick(Selection(draw.random, _NOW, hash=draw.getrandbits(64)))

            lines.append(
                f"| {name} | {count:,} | {_per_call(pick, rounds) * 1e6:.1f} us | {made * 1e3:.1f} ms |"
            )
    return lines


def _table() -> RouteTable:
    """A thousand routes on a service: a third by exact paths, prefixes and headers each."""
    routes = []
    for i in range(_ROUTES):
        match = (
            RouteMatch(path=PathExact(f"/exact/{i}")),
            RouteMatch(path=PathPrefix(f"/prefix/{i}"), method="GET"),
            RouteMatch(path=PathPrefix(f"/header/{i}"), headers=(StringMatch(name="x-user", value=str(i)),)),
        )[i % 3]
        clusters = (WeightedCluster(name="a", weight=9), WeightedCluster(name="b"))
        routes.append(Route(name=str(i), match=match, action=Forward(clusters=clusters)))
    return RouteTable(RouteConfig(name="web", virtual_hosts=(VirtualHost(name="all", routes=tuple(routes)),)))


def _decisions(rounds: int) -> list[str]:
    table = _table()
    lines = ["| request | a route decision |", "| --- | ---: |"]
    for name, path in (
        ("an exact path", "/exact/498"),
        ("a prefix and a method", "/prefix/499/a/b/c"),
        ("a prefix and a header", "/header/500/a/b/c"),
        ("none matches", "/header/501/a/b/c"),
    ):
        request = RequestHead(
            "GET", path, None, "web.shop", CIMultiDict((("x-user", "500"), ("accept", "*/*")))
        )
        cost = _per_call(lambda request=request: table.decide(request, 0.5), rounds)  # type: ignore[misc]
        lines.append(f"| {name} | {cost * 1e6:.1f} us |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.picks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the figures are the medians of so many")
    options = parser.parse_args(arguments)
    print("\n".join([*_picks(options.rounds), "", *_decisions(options.rounds)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
