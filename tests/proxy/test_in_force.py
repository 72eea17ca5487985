"""The config that a worker goes by: brought from change to change it is what all of it at once comes to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.cluster_policies import Balancing, Maglev, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.request_policies import SessionCookie
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Delta, Snapshot, difference
from proxy.balancing.selection import Selection
from proxy.in_force import ConfigInForce, ListenerState
from proxy.routing.listener_rules import NO_RULES, listener_rules

NAMES = ("n/a:80", "n/b:80", "n/c:80")
VIPS = ("10.96.0.1", "10.96.0.2")
NAMESPACES = ("n", "own")
"""The second one's callers have routes of their own."""


def route_configs(name: str) -> st.SearchStrategy[RouteConfig]:
    def made(cluster: str, session: bool) -> RouteConfig:
        action = Forward(
            clusters=(WeightedCluster(name=cluster),), session=SessionCookie(name="s") if session else None
        )
        host = VirtualHost(name=name, domains=("*",), routes=(Route(name=f"{name}/0", action=action),))
        return RouteConfig(name=name, virtual_hosts=(host,))

    return st.builds(made, st.sampled_from(NAMES), st.booleans())


def listeners(name: str) -> st.SearchStrategy[Listener]:
    return st.builds(
        lambda vips, protocol, own: Listener(
            name=name,
            service=name.partition(":")[0],
            addresses=tuple(sorted(vips)),
            port=80,
            protocol=protocol,
            cluster=name,
            route_config=name if protocol is Protocol.HTTP else "",
            consumers=(("own", f"{name}/own"),) if own and protocol is Protocol.HTTP else (),
        ),
        st.sets(st.sampled_from(VIPS), min_size=1),
        st.sampled_from(Protocol),
        st.booleans(),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    def some(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if draw(st.booleans())]

    own = tuple(f"{name}/own" for name in NAMES)
    return Snapshot(
        0,
        {name: draw(listeners(name)) for name in some(NAMES)},
        {name: draw(route_configs(name)) for name in some(NAMES + own)},
        {name: Cluster(name=name, balancing=draw(balancing)) for name in some(NAMES)},
        {name: EndpointSet(name=name, endpoints=draw(endpoints)) for name in some(NAMES)},
    )


balancing: st.SearchStrategy[Balancing] = st.sampled_from((RoundRobin(), Maglev(table_size=7)))
endpoints = st.sets(st.sampled_from(("10.0.0.1", "10.0.0.2"))).map(
    lambda found: tuple(Endpoint(address=each, port=8080) for each in sorted(found))
)


def seen(config: ConfigInForce) -> dict[tuple[str, str], ListenerState | None]:
    return {(vip, each): config.listener_at(vip, 80, each) for vip in VIPS for each in NAMESPACES}


def content(config: ConfigInForce) -> object:
    """All by which it decides."""
    return (
        {
            at: state and (state.listener, state.options, state.routes.config, state.tcp.reads_names)
            for at, state in seen(config).items()
        },
        {name: (each.cluster, each.endpoints) for name, each in config.balancers.items()},
        {
            (name, address): config.is_usable((name, address, 8080))
            for name in NAMES
            for address in ("10.0.0.1", "10.0.0.2")
        },
    )


@given(st.lists(st.tuples(snapshots(), st.booleans()), min_size=1, max_size=5))
def test_step_by_step_is_all_at_once(versions: list[tuple[Snapshot, bool]]) -> None:
    config, now = ConfigInForce(lambda: 0.0), Snapshot()
    for version, ahead in versions:
        for state in filter(None, seen(config).values()):  # as the fast path asks for them
            state.rules = listener_rules(config.snapshot, state.listener) or NO_RULES
        delta = difference(now, version)
        before = content(config)
        if ahead:
            for _ in config.ahead(delta):
                assert content(config) == before
            assert content(config) == before
        config.apply(delta)
        now = now.apply(delta)
        whole = ConfigInForce(lambda: 0.0)
        whole.apply(now.as_delta())
        assert content(config) == content(whole)
        for state in filter(None, seen(config).values()):
            wanted = listener_rules(now, state.listener) or NO_RULES
            assert state.rules is None or state.rules.fingerprint == wanted.fingerprint


def test_a_service_that_goes_or_speaks_another_protocol_ends_its_connections() -> None:
    listener = Listener(
        name=NAMES[0], service="n/a", addresses=VIPS[:1], port=80, protocol=Protocol.HTTP, route_config="r"
    )
    config = ConfigInForce(lambda: 0.0)
    config.apply(Delta(generation=1, listeners=(listener,)))
    state = config.listener_at(VIPS[0], 80, "n")
    assert state is not None
    removed = [state.removed]
    config.apply(Delta(generation=2, removed_listeners=(listener.name,)))
    assert [*removed, state.removed] == [False, True]
    assert config.listener_at(VIPS[0], 80, "n") is None


def test_a_large_table_is_made_ahead_in_small_steps() -> None:
    cluster = Cluster(name=NAMES[0], balancing=Maglev())
    found = EndpointSet(
        name=cluster.name, endpoints=tuple(Endpoint(address=f"10.0.0.{n}", port=80) for n in range(1, 6))
    )
    delta = Delta(generation=1, clusters=(cluster,), endpoints=(found,))
    config, at_once = ConfigInForce(lambda: 0.0), ConfigInForce(lambda: 0.0)
    assert sum(1 for _ in config.ahead(delta)) == 65537 // 1024
    for each in (config, at_once):
        each.apply(delta)
    for hash_ in range(1000):
        selection = Selection(lambda: 0.0, hash=hash_)
        mine = config.balancers[cluster.name].pick(selection)
        assert mine == at_once.balancers[cluster.name].pick(selection)
