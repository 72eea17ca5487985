"""What a cluster's limits do to requests: over one worker, and over two that share their counts."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.limit_page import LimitPage, Resource, new_fd
from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster
from proxy.load import Load, Loads
from tests.support.http_bed import (
    Bed,
    Server,
    answering,
    bed,
    by_connection,
    config,
    eventually,
    get,
    ok,
    read_response,
    receive_head,
    request_heads,
    server,
)


class Held:
    """A server that answers when it is told to."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(0)
        self.asked = 0

    def script(self, sock: socket.socket) -> None:
        for _ in request_heads(sock):
            self.asked += 1
            assert self._turns.acquire(timeout=60)
            sock.sendall(ok())

    def answer(self, requests: int = 1) -> None:
        self._turns.release(requests)


def _limited(port: int, limits: Limits) -> Bed:
    return Bed(config((port,), cluster=Cluster(name="web", limits=limits)))


class World:
    """A held server, a proxy in front of it, and clients that wait for their answers."""

    def __init__(self, limits: Limits) -> None:
        self.held = Held()
        self.server = Server(self.held.script)
        self.bed = _limited(self.server.port, limits)
        self._clients: list[socket.socket] = []

    def ask(self) -> socket.socket:
        """A new client's request; its answer is yet to come."""
        client = self.bed.connect()
        self._clients.append(client)
        client.sendall(get())
        return client

    def total(self, resource: Resource) -> int:
        totals: list[int] = []
        self.bed.call(lambda: totals.append(self.bed.runtime.loads.of("web").total(resource)))
        return totals[0]

    def waiting(self, requests: int) -> None:
        eventually(lambda: self.total(Resource.PENDING) == requests)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.bed.close()
        self.held.answer(1000)
        self.server.close()


@contextlib.contextmanager
def _world(limits: Limits) -> Iterator[World]:
    world = World(limits)
    try:
        yield world
    finally:
        world.close()


def _refused(client: socket.socket, what: str) -> None:
    head, body, _ = read_response(client)
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nx-envoy-overloaded: true" in head.lower()
    assert what in body.decode()


def _served(client: socket.socket) -> None:
    head, body, _ = read_response(client)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"hello"


def test_more_requests_than_may_be_out_are_refused() -> None:
    with _world(Limits(requests=2)) as world:
        first, second = world.ask(), world.ask()
        eventually(lambda: world.held.asked == 2)
        _refused(world.ask(), "too many requests (2)")
        assert [(e.status, e.flags) for e in world.bed.log.entries] == [(503, "UO")]
        world.held.answer(2)
        _served(first)
        _served(second)
        third = world.ask()
        world.held.answer()
        _served(third)
        assert world.total(Resource.REQUESTS) == 0


def test_a_request_waits_for_one_of_so_many_connections() -> None:
    with _world(Limits(connections=1)) as world:
        first = world.ask()
        eventually(lambda: world.held.asked == 1)
        second, third = world.ask(), world.ask()
        world.waiting(2)
        for client in (first, second, third):
            world.held.answer()
            _served(client)
        assert world.server.connections == 1
        assert world.total(Resource.PENDING) == 0
        assert world.total(Resource.CONNECTIONS) == 1


def test_so_many_may_wait() -> None:
    with _world(Limits(connections=1, pending=1)) as world:
        first = world.ask()
        eventually(lambda: world.held.asked == 1)
        second = world.ask()
        world.waiting(1)
        _refused(world.ask(), "wait for a connection (1)")
        world.held.answer(2)
        _served(first)
        _served(second)


def test_who_goes_leaves_his_place_to_others() -> None:
    with _world(Limits(connections=1, pending=1)) as world:
        first = world.ask()
        eventually(lambda: world.held.asked == 1)
        world.bed.present = False  # a client that closes is not there any more
        world.ask().close()
        world.waiting(0)
        third = world.ask()
        world.waiting(1)
        world.held.answer(2)
        _served(first)
        _served(third)


def test_a_connection_that_breaks_makes_room_for_another() -> None:
    gone = threading.Event()

    def hangs_up(sock: socket.socket) -> None:
        receive_head(sock)
        assert gone.wait(60)

    limits = Limits(connections=1)
    with server(by_connection(hangs_up, answering(ok()))) as upstream:
        proxy = _limited(upstream.port, limits)
        try:
            with proxy.connect() as first, proxy.connect() as second:
                first.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n")
                eventually(lambda: upstream.connections == 1)
                second.sendall(get())
                eventually(lambda: _waiting(proxy) == 1)
                gone.set()
                assert read_response(first)[0].startswith(b"HTTP/1.1 503 ")
                _served(second)
                assert upstream.connections == 2
        finally:
            proxy.close()


def _waiting(proxy: Bed) -> int:
    found: list[int] = []
    proxy.call(lambda: found.append(proxy.runtime.loads.of("web").total(Resource.PENDING)))
    return found[0]


def test_who_waits_for_what_cannot_be_made_is_told() -> None:
    with server(answering(ok())) as upstream:
        upstream.stop_listening()
        proxy = _limited(upstream.port, Limits(connections=1))
        try:
            clients = [proxy.connect() for _ in range(3)]
            for client in clients:
                client.sendall(get())
            for client in clients:
                assert read_response(client)[0].startswith(b"HTTP/1.1 503 ")
                client.close()
            loads = proxy.runtime.loads.of("web")
            eventually(lambda: all(loads.total(resource) == 0 for resource in Resource))
        finally:
            proxy.close()


def test_an_endpoint_that_goes_takes_nobody_with_it() -> None:
    with _world(Limits(connections=1)) as world, server(answering(ok(b"elsewhere"))) as other:
        first = world.ask()
        eventually(lambda: world.held.asked == 1)
        second = world.ask()
        world.waiting(1)
        cluster = Cluster(name="web", limits=Limits(connections=2))
        world.bed.apply(config((other.port,), cluster=cluster, generation=2))
        assert read_response(second)[1] == b"elsewhere"
        world.held.answer()
        _served(first)
        eventually(lambda: world.total(Resource.CONNECTIONS) == 1)


def test_without_limits_everything_is_counted_all_the_same() -> None:
    with _world(Limits()) as world:
        clients = [world.ask() for _ in range(3)]
        eventually(lambda: world.total(Resource.REQUESTS) == 3)
        assert world.total(Resource.CONNECTIONS) == 3
        world.held.answer(3)
        for client in clients:
            _served(client)
        assert world.total(Resource.REQUESTS) == 0


def test_limits_hold_over_all_workers() -> None:
    held = Held()
    limits = Limits(requests=2)
    fd = new_fd(2)
    with server(held.script) as upstream, contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        stack.callback(held.answer, 10)
        beds = []
        for worker in range(2):
            proxy = stack.enter_context(
                bed(config((upstream.port,), cluster=Cluster(name="web", limits=limits)))
            )
            proxy.call(partial(proxy.runtime.loads.share, LimitPage(fd, 2), {"web": 7}, worker))
            beds.append(proxy)
        one, other = beds
        first = stack.enter_context(one.connect())
        second = stack.enter_context(other.connect())
        first.sendall(get())
        second.sendall(get())
        eventually(lambda: held.asked == 2)
        for proxy in beds:
            with proxy.connect() as client:
                client.sendall(get())
                _refused(client, "too many requests (2)")
        held.answer(2)
        _served(first)
        _served(second)


# -- the counts themselves ---------------------------------------------------------------------------


@pytest.fixture
def page_fd() -> Iterator[int]:
    fd = new_fd(3)
    yield fd
    os.close(fd)


def test_counts_are_shared_as_soon_as_there_is_a_row(page_fd: int) -> None:
    mine, theirs = Loads(), Loads()
    web, other = mine.of("web"), mine.of("other")
    web.add(Resource.REQUESTS)
    mine.share(LimitPage(page_fd, 3), {"web": 0}, 0)
    theirs.share(LimitPage(page_fd, 3), {"web": 0}, 2)
    seen = theirs.of("web")
    assert seen.total(Resource.REQUESTS) == 1
    seen.add(Resource.REQUESTS)
    seen.add(Resource.RETRIES)
    web.add(Resource.REQUESTS)
    assert (web.total(Resource.REQUESTS), web.total(Resource.RETRIES)) == (3, 1)
    assert web.has_room(Resource.REQUESTS, 4)
    assert not web.has_room(Resource.REQUESTS, 3)
    assert web.has_room(Resource.REQUESTS, 0)
    web.remove(Resource.REQUESTS)
    assert seen.total(Resource.REQUESTS) == 2
    assert other.total(Resource.REQUESTS) == 0
    mine.close()
    assert seen.total(Resource.REQUESTS) == 1
    theirs.close()


def test_rows_may_change_while_requests_are_out(page_fd: int) -> None:
    mine, theirs = Loads(), Loads()
    held: list[Load] = []
    mine.share(LimitPage(page_fd, 3), {"a": 0, "b": 1}, 0)
    for name in ("a", "b"):
        held.append(mine.of(name))
        held[-1].add(Resource.CONNECTIONS)
    held[0].add(Resource.CONNECTIONS)
    rows = {"b": 0, "c": 1}
    mine.share(LimitPage(page_fd, 3), rows, 0)
    theirs.share(LimitPage(page_fd, 3), rows, 1)
    assert [theirs.of(name).total(Resource.CONNECTIONS) for name in ("b", "c")] == [1, 0]
    assert held[0].total(Resource.CONNECTIONS) == 2  # for itself
    for load in held:
        load.remove(Resource.CONNECTIONS)
    assert [theirs.of(name).total(Resource.CONNECTIONS) for name in ("b", "c")] == [0, 0]
    mine.close()
    theirs.close()


def test_a_new_agents_memory_gets_what_is_out(page_fd: int) -> None:
    mine = Loads()
    mine.share(LimitPage(page_fd, 3), {"web": 5}, 1)
    load = mine.of("web")
    load.add(Resource.PENDING)
    new = new_fd(3)
    mine.share(LimitPage(new, 3), {"web": 9}, 1)
    seen = LimitPage(new, 3)
    assert seen.total(9, Resource.PENDING) == 1
    load.remove(Resource.PENDING)
    assert seen.total(9, Resource.PENDING) == 0
    mine.close()
    seen.close()
    os.close(new)


def test_a_new_process_in_a_dead_ones_place_begins_with_nothing(page_fd: int) -> None:
    dead = Loads()
    dead.share(LimitPage(page_fd, 3), {"web": 0}, 1)
    load = dead.of("web")
    load.add(Resource.REQUESTS)
    new = Loads()
    new.share(LimitPage(page_fd, 3), {"web": 0}, 1)
    assert new.of("web").total(Resource.REQUESTS) == 0
    new.close()
    dead.close()


_events = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(Resource)),
        st.tuples(st.just("remove"), st.integers(0, 2), st.sampled_from("abc"), st.sampled_from(Resource)),
        st.tuples(st.just("rows"), st.permutations(range(4)), st.sets(st.sampled_from("abc")), st.none()),
        st.tuples(st.just("die"), st.integers(0, 2), st.none(), st.none()),
    ),
    max_size=30,
)


@given(_events)
def test_the_sum_is_what_all_living_workers_have_out(events: list[tuple[Any, Any, Any, Any]]) -> None:
    fd = new_fd(3)
    workers = [Loads() for _ in range(3)]
    held: dict[tuple[int, str], Load] = {}
    out: Counter[tuple[int, str, Resource]] = Counter()
    rows: dict[str, int] = {}
    try:
        for kind, first, second, resource in events:
            match kind:
                case "add":
                    load = held.setdefault((first, second), workers[first].of(second))
                    load.add(resource)
                    out[first, second, resource] += 1
                case "remove" if out[first, second, resource]:
                    held[first, second].remove(resource)
                    out[first, second, resource] -= 1
                case "rows":
                    rows = dict(zip(sorted(second), first, strict=False))
                    for number, worker in enumerate(workers):
                        worker.share(LimitPage(fd, 3), rows, number)
                case "die":
                    workers[first] = Loads()
                    workers[first].share(LimitPage(fd, 3), rows, first)
                    held = {key: load for key, load in held.items() if key[0] != first}
                    out = Counter({key: count for key, count in out.items() if key[0] != first})
            for name in rows:
                for each in Resource:
                    expected = sum(out[number, name, each] for number in range(3))
                    assert [worker.of(name).total(each) for worker in workers] == [expected] * 3
    finally:
        for worker in workers:
            worker.close()
        os.close(fd)
