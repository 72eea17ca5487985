from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Delta, Snapshot, difference

names = st.sampled_from(["a", "b", "c", "d"])
ports = st.integers(1, 3)


def _listener(name: str, port: int) -> Listener:
    return Listener(name=name, service=name, addresses=("10.0.0.1",), port=port, protocol=Protocol.TCP)


snapshots = st.builds(
    lambda generation, listeners, routes, clusters, endpoints: Snapshot(
        generation,
        {name: _listener(name, port) for name, port in listeners.items()},
        {name: RouteConfig(name=name) for name in routes},
        {name: Cluster(name=name, connect_timeout=float(port)) for name, port in clusters.items()},
        {name: EndpointSet(name=name) for name in endpoints},
    ),
    st.integers(0, 100),
    st.dictionaries(names, ports),
    st.sets(names),
    st.dictionaries(names, ports),
    st.sets(names),
)


@given(snapshots, snapshots)
def test_applying_the_difference_gives_the_new_snapshot(old: Snapshot, new: Snapshot) -> None:
    result = old.apply(difference(old, new))
    assert result.as_delta().generation == new.generation
    for kind in ("listeners", "route_configs", "clusters", "endpoints"):
        assert dict(getattr(result, kind)) == dict(getattr(new, kind))


@given(snapshots)
def test_nothing_differs_from_itself(snapshot: Snapshot) -> None:
    assert difference(snapshot, snapshot) == Delta(generation=snapshot.generation)


@given(snapshots)
def test_a_snapshot_as_delta_makes_it_from_nothing(snapshot: Snapshot) -> None:
    assert difference(Snapshot().apply(snapshot.as_delta()), snapshot) == Delta(
        generation=snapshot.generation
    )
