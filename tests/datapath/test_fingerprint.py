"""Fingerprints: alike in every process for alike content, and for nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.datapath.rules.fingerprint import Fingerprints, cluster_id, fnv1a, rules_fingerprint
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.routes import Forward, HeaderEdit, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Delta, Snapshot, difference
from tests.xds.test_holdings import configs

A, B, OTHER = "shop/a:80", "shop/b:80", "shop/other:80"


def listener(name: str, **changes: object) -> Listener:
    own = Listener(
        name=name,
        service=name.partition(":")[0],
        addresses=("10.96.0.1",),
        port=80,
        protocol=Protocol.HTTP,
        cluster=name,
        route_config=name,
    )
    return msgspec.structs.replace(own, **changes)


def routes(name: str, *clusters: str) -> RouteConfig:
    shares = tuple(WeightedCluster(name=each, weight=2) for each in clusters)
    route = Route(name="shop/r/0", action=Forward(clusters=shares, timeout=5.0))
    return RouteConfig(name=name, virtual_hosts=(VirtualHost(name="*", routes=(route,)),))


def endpoints(name: str, *addresses: str) -> EndpointSet:
    return EndpointSet(name=name, endpoints=tuple(Endpoint(address=each, port=8080) for each in addresses))


SNAPSHOT = Snapshot(
    1,
    {A: listener(A), B: listener(B)},
    {A: routes(A, A, OTHER), B: routes(B, B)},
    {name: Cluster(name=name) for name in (A, B, OTHER)},
    {name: endpoints(name, "10.1.0.1", "10.1.0.2") for name in (A, B, OTHER)},
)


def _changed(**changes: object) -> Snapshot:
    return SNAPSHOT.apply(msgspec.structs.replace(Delta(generation=2), **changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"listeners": (listener(A, port=81),)},
        lambda: {"listeners": (listener(A, http=HttpOptions(request_id=False)),)},
        lambda: {"route_configs": (routes(A, OTHER, A),)},
        lambda: {"removed_route_configs": (A,)},
        lambda: {"clusters": (Cluster(name=OTHER, idle_timeout=1.0),)},
        lambda: {"removed_clusters": (OTHER,)},
        lambda: {"endpoints": (endpoints(OTHER, "10.1.0.1"),)},
        lambda: {"removed_endpoints": (A,)},
        lambda: {
            "endpoints": (
                EndpointSet(
                    name=A,
                    endpoints=tuple(
                        msgspec.structs.replace(each, health=Health.DRAINING)
                        for each in SNAPSHOT.endpoints[A].endpoints
                    ),
                ),
            )
        },
    ],
)
def test_a_change_of_anything_that_decides_affects_the_listeners_that_it_decides_for(
    change: Callable[[], dict[str, object]],
) -> None:
    fingerprints = Fingerprints()
    assert fingerprints.update(SNAPSHOT) == {(name, ""): SNAPSHOT.listeners[name] for name in (A, B)}
    before = {name: fingerprints[name, ""] for name in (A, B)}
    assert before == {name: rules_fingerprint(SNAPSHOT, SNAPSHOT.listeners[name]) for name in (A, B)}
    new = _changed(**change())
    assert fingerprints.update(new) == {(A, ""): new.listeners[A]}
    assert fingerprints[A, ""] == rules_fingerprint(new, new.listeners[A]) != before[A]
    assert fingerprints[B, ""] == before[B]


def test_a_replacement_that_is_equal_affects_nobody() -> None:
    fingerprints = Fingerprints()
    fingerprints.update(SNAPSHOT)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(SNAPSHOT.as_delta()), type=Delta)
    assert fingerprints.update(Snapshot().apply(again)) == {}


@given(st.lists(configs(), min_size=1, max_size=6))
def test_step_by_step_is_all_at_once(versions: list[Snapshot]) -> None:
    fingerprints, now = Fingerprints(), Snapshot()
    known: dict[tuple[str, str], int] = {}
    for version in versions:
        now = now.apply(difference(now, version))
        affected = fingerprints.update(now)
        wanted = {(name, ""): rules_fingerprint(now, each) for name, each in now.listeners.items()}
        assert {variant: fingerprints[variant] for variant in fingerprints} == wanted
        assert affected.keys() == {v for v in {*known, *wanted} if known.get(v) != wanted.get(v)}
        assert {
            variant for variant, listener in affected.items() if listener is None
        } == known.keys() - wanted
        known = wanted


def _with_consumers(*namespaces: str) -> Snapshot:
    """Listener A with rules of its own for the callers of some namespaces, the same as for the others."""
    configs = tuple((each, f"{A}/from/{each}") for each in namespaces)
    listener = msgspec.structs.replace(SNAPSHOT.listeners[A], consumers=configs)
    routes = SNAPSHOT.route_configs[listener.route_config]
    return _changed(
        listeners=(listener,),
        route_configs=tuple(msgspec.structs.replace(routes, name=name) for _, name in configs),
    )


def test_a_namespace_that_gets_rules_of_its_own_puts_those_it_had_out_of_force() -> None:
    fingerprints = Fingerprints()
    fingerprints.update(SNAPSHOT)
    of_all = fingerprints[A, ""]
    one = _with_consumers("x")
    assert fingerprints.update(one).keys() == {(A, ""), (A, "x")}
    seen = {fingerprints[A, ""], fingerprints[A, "x"]}
    assert len(seen | {of_all}) == 3
    assert fingerprints[A, "x"] == rules_fingerprint(one, one.listeners[A].seen_from("x"))
    # Those of x stay as they are when y gets its own; those of all others may not.
    assert fingerprints.update(_with_consumers("x", "y")).keys() == {(A, ""), (A, "y")}
    assert fingerprints.update(SNAPSHOT) == {
        (A, ""): SNAPSHOT.listeners[A],
        (A, "x"): None,
        (A, "y"): None,
    }
    assert fingerprints[A, ""] == of_all
    with pytest.raises(KeyError):
        fingerprints[A, "x"]


def test_a_listener_that_goes_is_forgotten() -> None:
    fingerprints = Fingerprints()
    fingerprints.update(SNAPSHOT)
    assert fingerprints.update(_changed(removed_listeners=(A,))) == {(A, ""): None}
    with pytest.raises(KeyError):
        fingerprints[A, ""]


def test_how_a_value_was_made_does_not_matter() -> None:
    share = WeightedCluster(name=A, weight=2, request_headers=HeaderEdit(set=(), add=()))
    typed = Route(name="shop/r/0", action=Forward(clusters=(share,), timeout=5.0))
    untyped = Route(name="shop/r/0", action=Forward(clusters=(WeightedCluster(name=A, weight=2),), timeout=5))
    made = [
        Snapshot(1, {A: listener(A)}, {A: RouteConfig(name=A, virtual_hosts=(host,))})
        for host in (VirtualHost(name="*", routes=(route,)) for route in (typed, untyped))
    ]
    first, second = (rules_fingerprint(each, each.listeners[A]) for each in made)
    assert first == second


def test_another_process_finds_the_same() -> None:
    program = (
        "import sys, msgspec\n"
        "from meshd.datapath.rules.fingerprint import *\n"
        "from meshd.model.snapshot import *\n"
        "snapshot = Snapshot().apply(msgspec.json.decode(sys.stdin.read(), type=Delta))\n"
        f"print(rules_fingerprint(snapshot, snapshot.listeners[{A!r}]), cluster_id({A!r}))"
    )
    text = msgspec.json.encode(SNAPSHOT.as_delta()).decode()
    done = subprocess.run(
        [sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        str(rules_fingerprint(SNAPSHOT, SNAPSHOT.listeners[A])),
        str(cluster_id(A)),
    ]


def test_the_hash_of_paths_is_fnv_1a() -> None:
    """The algorithm's own test vectors (draft-eastlake-fnv, appendix C)."""
    assert fnv1a(b"") == 0xCBF29CE484222325
    assert fnv1a(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a(b"foobar") == 0x85944171F73967E8
