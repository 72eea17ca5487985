"""What the kernel counted, read from real maps that the test fills in the programs' place."""

from __future__ import annotations

import asyncio
import errno
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.agent.kernel_counts import KernelCounts
from meshd.agent.kernel_totals import GRACE_SECONDS
from meshd.agent.totals import RequestKey
from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.datapath.counts.rows import Row, UpcallRow
from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.enrolled_sockets import EnrolledSockets, Side
from meshd.datapath.flows.listing import FLOW_MAPS, FlowList, FlowState
from meshd.datapath.kernel.bpf_batch import entries
from meshd.datapath.kernel.bpf_map import Map, possible_cpus
from meshd.datapath.rules.fingerprint import cluster_id, rules_fingerprint
from meshd.model.clusters import Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.wire import LATENCY_BUCKETS
from meshd.model.workload import Workload
from tests.datapath.mesh import Mesh
from tests.support.http_bed import eventually

NAME = "demo/web:80"
COOKIE = 4711
CLIENT = {COOKIE: Workload(uid="u", namespace="demo", name="client", netns="/x")}


def _snapshot(generation: int, weight: int) -> Snapshot:
    listener = Listener(
        name=NAME,
        service="demo/web",
        addresses=("10.96.0.9", "fd00::9"),
        port=80,
        protocol=Protocol.HTTP,
        cluster=NAME,
        route_config=NAME,
    )
    route = Route(name="demo/web/0", action=Forward(clusters=(WeightedCluster(name=NAME),)))
    endpoints = (Endpoint(address="10.9.9.9", port=8080, weight=weight),)
    return Snapshot(
        generation,
        {NAME: listener},
        {NAME: RouteConfig(name=NAME, virtual_hosts=(VirtualHost(name="*", routes=(route,)),))},
        {},
        {NAME: EndpointSet(name=NAME, endpoints=endpoints)},
    )


class Counters:
    """Writes the maps as the programs do: a value for each CPU."""

    def __init__(self, datapath: Datapath) -> None:
        self.requests = datapath.open_map("requests")
        self.upcalls = datapath.open_map("upcalls")
        self._row = datapath.layout.codec(
            "request_row", "rules", "netns", "cluster", "route", "method", "status", "cancelled"
        )
        self._upcall = datapath.layout.codec("upcall_row", "service", "reason")
        self._count = datapath.layout.codec("request_count", "count", "nanoseconds", "bucket")

    def request(self, row: Row, *counts: int) -> None:
        """So many on each CPU, of 2 ms each."""
        value = b""
        for count in (*counts, *([0] * (possible_cpus() - len(counts)))):
            buckets = [0] * (len(LATENCY_BUCKETS) + 1)
            buckets[2] = count
            packed = struct.pack(f"={len(buckets)}Q", *buckets)
            value += self._count.pack(count, count * 2_000_000, packed)
        key = self._row.pack(*row)
        eventually(lambda: self._is_put(key, value))

    def _is_put(self, key: bytes, value: bytes) -> bool:
        """The kernel makes room for entries in the background, and may be behind (ENOMEM)."""
        try:
            self.requests[key] = value
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            return False
        return True

    def upcall(self, service: int, reason: int, *counts: int) -> None:
        padded = (*counts, *([0] * (possible_cpus() - len(counts))))
        self.upcalls[self._upcall.pack(service, reason)] = struct.pack(f"={len(padded)}Q", *padded)

    def close(self) -> None:
        for opened in (self.requests, self.upcalls):
            for key in list(opened):
                opened.discard(key)
            opened.close()


@pytest.fixture
def kernel(datapath: Datapath) -> Iterator[Counters]:
    made = Counters(datapath)
    try:
        yield made
    finally:
        made.close()
        datapath.apply(Snapshot(), Snapshot())


@pytest.fixture
def counts(datapath: Datapath, tmp_path: Path) -> Iterator[KernelCounts]:
    made = _counts(datapath, tmp_path)
    try:
        yield made
    finally:
        made.close()


def _counts(datapath: Datapath, folder: Path) -> KernelCounts:
    layout = datapath.layout
    return KernelCounts(
        CarriedRequests(datapath.open_map("requests"), datapath.open_map("upcalls"), layout),
        datapath.service_ids,
        lambda: CLIENT,
        folder / "counts",
    )


def _row(snapshot: Snapshot) -> Row:
    rules = rules_fingerprint(snapshot, snapshot.listeners[NAME])
    return Row(rules, COOKIE, cluster_id(NAME), route=0, method=1, status=200)


KEY = RequestKey(NAME, "demo/web/0", NAME, "demo/client", "GET", 200, "")


def test_requests_are_summed_over_cpus_and_named(
    datapath: Datapath, kernel: Counters, counts: KernelCounts
) -> None:
    snapshot = _snapshot(1, 1)
    datapath.apply(Snapshot(), snapshot)
    kernel.request(_row(snapshot), *range(1, possible_cpus() + 1))
    asyncio.run(_refreshed(counts, snapshot))
    total = counts.requests()[KEY]
    expected = sum(range(1, possible_cpus() + 1))
    assert (total.count, round(total.seconds, 6)) == (expected, round(expected * 0.002, 6))
    assert total.buckets == [0, 0, *([expected] * (len(LATENCY_BUCKETS) - 2))]


def test_rows_of_old_rules_move_out_of_the_kernel_and_stay_in_the_sum(
    datapath: Datapath, kernel: Counters, counts: KernelCounts, tmp_path: Path
) -> None:
    old, new = _snapshot(1, 1), _snapshot(2, 2)
    assert _row(old) != _row(new)

    async def steps() -> None:
        datapath.apply(Snapshot(), old)
        await counts.config(old)
        kernel.request(_row(old), 5)
        datapath.apply(old, new)
        await counts.config(new)
        kernel.request(_row(new), 7)
        await counts.take_finished()
        assert len(list(kernel.requests)) == 2
        await counts.take_finished(time.monotonic() + GRACE_SECONDS)
        assert len(list(kernel.requests)) == 1
        assert counts.requests()[KEY].count == 12
        kernel.request(_row(new), 8)
        await counts.refresh()
        assert counts.requests()[KEY].count == 13

    asyncio.run(steps())
    next_agent = _counts(datapath, tmp_path)
    try:
        asyncio.run(_refreshed(next_agent, new))
        assert next_agent.requests()[KEY].count == 13
    finally:
        next_agent.close()


def test_upcalls_of_a_service_that_goes_stay_in_the_sum(
    datapath: Datapath, kernel: Counters, counts: KernelCounts
) -> None:
    snapshot, nothing = _snapshot(1, 1), Snapshot(2)
    new = datapath.layout.enums["upcall"]["UPCALL_NEW"]

    async def steps() -> None:
        datapath.apply(Snapshot(), snapshot)
        await counts.config(snapshot)
        number = datapath.service_ids()[NAME]
        kernel.upcall(number, new, 2, 5)
        await counts.refresh()
        assert counts.upcalls() == {(NAME, "new"): 7}
        datapath.apply(snapshot, nothing)
        await counts.config(nothing)
        assert counts.upcalls() == {(NAME, "new"): 7}
        assert list(kernel.upcalls) == []

    asyncio.run(steps())


async def _refreshed(counts: KernelCounts, snapshot: Snapshot) -> None:
    await counts.config(snapshot)
    await counts.refresh()


def test_a_large_map_is_read_whole(datapath: Datapath, kernel: Counters) -> None:
    reader = CarriedRequests(datapath.open_map("requests"), datapath.open_map("upcalls"), datapath.layout)
    for number in range(5000):
        kernel.request(Row(number, COOKIE, 1, 0, 1, 200), 1)
    found = reader.requests()
    assert {row.rules for row in found} == set(range(5000))
    assert sum(count.requests for count in found.values()) == 5000
    taken = reader.take(Row(17, COOKIE, 1, 0, 1, 200))
    assert taken is not None
    assert taken.requests == 1
    assert reader.take(Row(17, COOKIE, 1, 0, 1, 200)) is None
    assert len(reader.requests()) == 4999
    reader.close()


def test_an_empty_map_has_no_entries(datapath: Datapath) -> None:
    opened: Map = datapath.open_map("requests")
    assert list(entries(opened)) == []
    opened.close()


def test_reasons_have_the_names_of_the_enum(datapath: Datapath, kernel: Counters) -> None:
    reader = CarriedRequests(datapath.open_map("requests"), datapath.open_map("upcalls"), datapath.layout)
    kernel.upcall(3, datapath.layout.enums["upcall"]["UPCALL_NO_CONNECTION"], 1)
    assert reader.upcalls() == {UpcallRow(3, "no_connection"): 1}
    assert reader.take_upcalls(3) == {UpcallRow(3, "no_connection"): 1}
    assert reader.upcalls() == {}
    reader.close()


def test_open_flows_are_listed(mesh: Mesh) -> None:
    datapath = mesh.datapath
    mesh.service(["10.96.0.1"], 80, Protocol.HTTP)
    flows = FlowList(map(datapath.open_map, FLOW_MAPS), datapath.layout)
    sockets = EnrolledSockets(datapath.open_map, datapath.layout)
    clients = [mesh.connect("10.96.0.1", 80) for _ in range(5)]
    found = flows.read(100)
    assert {flow.client for flow in found} == {sock.getsockname() for sock in clients}
    assert {(flow.destination, flow.netns) for flow in found} == {(("10.96.0.1", 80), mesh.pod.cookie)}
    assert {(flow.state, flow.rules, flow.endpoints) for flow in found} == {(FlowState.NEW, 0, ())}
    assert all(flow.opened for flow in found)
    assert len(flows.read(3)) == 3
    own = clients[0].getsockname()
    proxy = ("127.0.0.1", 15001)
    enrolled = sockets.find(mesh.pod.cookie, own, proxy)
    assert enrolled is not None
    assert enrolled.side is Side.CLIENT
    assert sockets.find(mesh.pod.cookie + 1, own, proxy) is None
    assert sockets.find(mesh.pod.cookie, ("127.0.0.1", 1), proxy) is None
    flows.close()
    sockets.close()
