"""Server and client machines against each other, through any sequence of changes and lost streams."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.model.listeners import Listener
from meshd.model.request_policies import Mirror
from meshd.model.routes import Forward, RouteConfig
from meshd.model.snapshot import Snapshot
from meshd.xds.client_stream import ClientStream
from meshd.xds.delta_stream import DeltaStream
from meshd.xds.interest import Want
from meshd.xds.resources import CLUSTER, ENDPOINTS, ROUTE_CONFIG, SHORT, ResourceSet
from meshd.xds.server_stream import Rejection
from meshd.xds.sotw_stream import SotwStream
from meshd.xds.state_of_the_world import StateOfTheWorld
from meshd.xds.warming import referred_clusters
from tests.xds.example import cluster, endpoints, listener, resources, route_config, snapshot

NAMES = st.sampled_from(["a", "b", "c"])
CALLERS = st.sampled_from(["p", "q"])


@st.composite
def configs(draw: st.DrawFn) -> Snapshot:
    """Any config that a control plane of ours could serve: whole, that is."""
    clusters = draw(st.sets(NAMES, min_size=1))
    owned = st.sampled_from(sorted(clusters))
    routed = st.lists(owned, max_size=2, unique=True)
    listeners, routes = [], []
    for name in sorted(draw(st.sets(NAMES))):
        consumers = {each: f"{name}@{each}" for each in sorted(draw(st.sets(CALLERS)))}
        plain = listener(name, f"10.0.0.{draw(st.integers(1, 3))}", cluster=draw(owned))
        listeners.append(msgspec.structs.replace(plain, consumers=tuple(consumers.items())))
        routes += [
            with_mirror(route_config(each, *draw(routed)), draw(owned))
            for each in (name, *consumers.values())
        ]
    return snapshot(
        listeners,
        routes,
        [cluster(n, connect_timeout=draw(st.integers(1, 2))) for n in sorted(clusters)],
        [endpoints(n, f"10.1.0.{draw(st.integers(1, 3))}") for n in sorted(clusters)],
    )


def with_mirror(config: RouteConfig, to: str) -> RouteConfig:
    """Copies of the requests of its first route go to a cluster."""
    (host,) = config.virtual_hosts
    if not host.routes:
        return config
    first, *others = host.routes
    assert isinstance(first.action, Forward)
    action = msgspec.structs.replace(first.action, mirrors=(Mirror(cluster=to),))
    routes = (msgspec.structs.replace(first, action=action), *others)
    return msgspec.structs.replace(config, virtual_hosts=(msgspec.structs.replace(host, routes=routes),))


def whole(config: Snapshot) -> bool:
    """Whether no request could meet something that is missing."""
    return config.clusters.keys() == config.endpoints.keys() and all(
        item.clusters | referred(config, item) <= config.clusters.keys()
        and config.route_configs.keys() >= set(item.route_configs)
        for item in config.listeners.values()
    )


def referred(config: Snapshot, item: Listener) -> set[str]:
    return {
        each
        for name in item.route_configs
        if name in config.route_configs
        for each in referred_clusters(config.route_configs[name])
    }


class ByState:
    """A server that knows no delta, and what makes up for it."""

    def __init__(self, served: ResourceSet) -> None:
        self._server = SotwStream(served)
        self._client = StateOfTheWorld()
        self._responses: deque[discovery_pb2.DeltaDiscoveryResponse] = deque()

    def publish(self, served: ResourceSet) -> None:
        self._server.publish(served)

    def received(self, request: discovery_pb2.DeltaDiscoveryRequest) -> Rejection | None:
        rejections = [self._server.received(each) for each in self._client.requests(request)]
        return next(iter(rejections), None)

    def next_response(self) -> discovery_pb2.DeltaDiscoveryResponse | None:
        if not self._responses and (response := self._server.next_response()) is not None:
            self._responses.extend(self._client.responses(response))
        return self._responses.popleft() if self._responses else None


Server = type[DeltaStream] | type[ByState]
VARIANTS = pytest.mark.parametrize("variant", [DeltaStream, ByState])


class Session:
    """One client, on one stream after another."""

    def __init__(self, variant: Server, everything: bool = True) -> None:
        self.client = ClientStream(base_pb2.Node(id="n"), everything)
        self._variant = variant
        self.server = variant(ResourceSet())
        self.meanwhile: list[Callable[[], None]] = []
        """What happens while the next change is being put into force."""

    def connect(self, served: ResourceSet) -> None:
        self.server = self._variant(served)
        for request in self.client.connected():
            self.server.received(request)

    def step(self) -> bool:
        """One response and its answer. False if there was none."""
        response = self.server.next_response()
        if response is None:
            return False
        received = self.client.received(response)
        assert received.rejected == {}
        self.change()
        for request in self.client.answer(received):
            assert self.server.received(request) is None
        return True

    def change(self) -> None:
        """Put into force what may be."""
        while (delta := self.client.change()) is not None:
            while self.meanwhile:
                self.meanwhile.pop()()
            self.client.in_force(delta)
            for request in self.client.requests():
                self.server.received(request)
            assert whole(self.client.snapshot)

    def wanted(self) -> None:
        """The client wants something else."""
        while self.meanwhile:
            self.meanwhile.pop()()
        for request in self.client.requests():
            self.server.received(request)
        self.change()


@VARIANTS
@settings(max_examples=300)
@given(events=st.lists(st.tuples(configs(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=5))
def test_whatever_happens_the_config_in_force_is_whole_and_in_the_end_the_newest(
    variant: Server, events: list[tuple[Snapshot, bool, int]]
) -> None:
    session = Session(variant)
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


_STEPS = st.one_of(
    st.tuples(st.just("publish"), configs()),
    st.tuples(st.just("reconnect"), st.just(None)),
    st.tuples(st.just("want"), st.tuples(st.sets(NAMES, min_size=1), st.sampled_from(Want), st.booleans())),
    st.tuples(st.just("callers"), st.sets(CALLERS)),
    st.tuples(st.just("steps"), st.integers(1, 4)),
)


@VARIANTS
@settings(max_examples=200)
@given(newest=configs(), events=st.lists(_STEPS, max_size=10))
def test_whatever_is_wanted_when_only_that_is_held_and_it_is_whole(
    variant: Server, newest: Snapshot, events: list[tuple[str, Any]]
) -> None:
    session = Session(variant, everything=False)
    session.connect(resources(newest))
    wants: dict[str, Want] = {}
    callers: set[str] = set()
    for what, detail in events:
        if what == "publish":
            newest = detail
            session.server.publish(resources(newest))
        elif what == "reconnect":
            session.connect(resources(newest))
        elif what == "want":
            names, want, meanwhile = detail
            wants.update(dict.fromkeys(names, want))
            session.meanwhile.insert(0, partial(session.client.want, names, want))
            if not meanwhile:
                session.wanted()
        elif what == "callers":
            callers = detail
            session.client.follow(callers)
            session.wanted()
        else:
            for _ in range(detail):
                session.step()
    session.wanted()
    while session.step():
        pass
    assert session.client.synced
    assert session.client.waiting == ()
    held = {
        name: each.for_callers(callers)
        for name, each in newest.listeners.items()
        if wants.get(name, Want.KNOWN) is not Want.KNOWN
    }
    configs = {name for each in held.values() for name in each.route_configs}
    clusters = {name for each in held.values() for name in each.clusters | referred(newest, each)}
    used = [each for name, each in held.items() if wants[name] is Want.USED]
    needed = {name for each in used for name in each.clusters | referred(newest, each)}
    in_force = session.client.snapshot
    assert dict(in_force.listeners) == {
        name: held[name] if wants.get(name) is Want.USED else each.as_cold()
        for name, each in newest.listeners.items()
    }
    assert dict(in_force.route_configs) == {name: newest.route_configs[name] for name in configs}
    # What is only kept comes into force with what leads there.
    there = in_force.clusters.keys()
    assert needed <= there <= clusters
    assert dict(in_force.clusters) == {name: newest.clusters[name] for name in there}
    assert dict(in_force.endpoints) == {name: newest.endpoints[name] for name in there}
    versions = session.client.versions
    assert [versions[SHORT[kind]].keys() for kind in (CLUSTER, ENDPOINTS, ROUTE_CONFIG)] == [
        clusters,
        clusters,
        configs,
    ]
