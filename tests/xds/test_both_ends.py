"""Server and client machines against each other, through any sequence of changes and lost streams."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.model.listeners import Protocol
from meshd.model.routes import Forward
from meshd.model.snapshot import Snapshot
from meshd.xds.client_stream import ClientStream
from meshd.xds.delta_stream import DeltaStream
from meshd.xds.resources import ResourceSet
from tests.xds.example import cluster, endpoints, listener, resources, route_config, snapshot

NAMES = st.sampled_from(["a", "b", "c"])


@st.composite
def configs(draw: st.DrawFn) -> Snapshot:
    """Any config that a control plane of ours could serve: whole, that is."""
    clusters = draw(st.sets(NAMES, min_size=1))
    listeners = draw(st.sets(NAMES))
    owned = st.sampled_from(sorted(clusters))
    return snapshot(
        [listener(n, f"10.0.0.{draw(st.integers(1, 3))}", cluster=draw(owned)) for n in sorted(listeners)],
        [route_config(n, *draw(st.lists(owned, max_size=2, unique=True))) for n in sorted(listeners)],
        [cluster(n, connect_timeout=draw(st.integers(1, 2))) for n in sorted(clusters)],
        [endpoints(n, f"10.1.0.{draw(st.integers(1, 3))}") for n in sorted(clusters)],
    )


def whole(config: Snapshot) -> bool:
    """Whether no request could meet something that is missing."""
    return config.clusters.keys() == config.endpoints.keys() and all(
        item.cluster in config.clusters
        and (item.protocol is Protocol.TCP or item.route_config in config.route_configs)
        and all(
            share.name in config.clusters
            for host in config.route_configs[item.route_config].virtual_hosts
            for route in host.routes
            if isinstance(route.action, Forward)
            for share in route.action.clusters
        )
        for item in config.listeners.values()
    )


class Session:
    """One client, on one stream after another."""

    def __init__(self) -> None:
        self.client = ClientStream(base_pb2.Node(id="n"))
        self.server = DeltaStream(ResourceSet())

    def connect(self, served: ResourceSet) -> None:
        self.server = DeltaStream(served)
        for request in self.client.connected():
            self.server.received(request)

    def step(self) -> bool:
        """One response and its answer. False if there was none."""
        response = self.server.next_response()
        if response is None:
            return False
        received = self.client.received(response)
        assert received.rejected == {}
        delta = self.client.change()
        if delta is not None:
            self.client.in_force(delta)
        assert whole(self.client.snapshot)
        for request in self.client.answer(received):
            assert self.server.received(request) is None
        return True


@settings(max_examples=300)
@given(st.lists(st.tuples(configs(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=5))
def test_whatever_happens_the_config_in_force_is_whole_and_in_the_end_the_newest(
    events: list[tuple[Snapshot, bool, int]],
) -> None:
    session = Session()
    session.connect(resources(events[0][0]))
    newest = events[0][0]
    for newest, reconnects, steps in events:
        if reconnects:
            session.connect(resources(newest))
        else:
            session.server.publish(resources(newest))
        # The next change, or the loss of the stream, comes before all of this one has arrived.
        for _ in range(steps):
            session.step()
    while session.step():
        pass
    assert session.client.synced
    in_force = session.client.snapshot
    assert dict(in_force.listeners) == dict(newest.listeners)
    assert dict(in_force.route_configs) == dict(newest.route_configs)
    assert dict(in_force.clusters) == dict(newest.clusters)
    assert dict(in_force.endpoints) == dict(newest.endpoints)
