"""Routed TCP connections between real sockets: which server, what passes, and how each side ends."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest

from meshd.limit_page import Resource
from meshd.model.cluster_policies import Limits, Outlier, RingHash
from meshd.model.clusters import Cluster
from meshd.model.outcomes import EndpointTally
from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute
from tests.proxy.tcp.tcp_bed import TcpBed, closed_port, config, hello, route, send_reset, tcp_bed
from tests.support.http_bed import Script, Server, eventually, receive_all, server


def telling(name: bytes) -> Script:
    """Says who it is, before it is asked anything."""

    def script(sock: socket.socket) -> None:
        sock.sendall(name)

    return script


def answering_hello(name: bytes) -> Script:
    """Says who it is when something has come."""

    def script(sock: socket.socket) -> None:
        first = sock.recv(65536)
        sock.sendall(name + b":%d" % len(first))

    return script


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def ask(bed: TcpBed, data: bytes = b"") -> bytes:
    """What a client that sends ``data`` gets; "reset" for a reset."""
    try:
        with contextlib.closing(bed.connect()) as client:
            if data:
                client.sendall(data)
            return receive_all(client)
    except ConnectionResetError:
        return b"reset"


@contextlib.contextmanager
def routed(cluster: str, *ports: int, attempts: int = 1) -> Iterator[TcpBed]:
    """A proxy that sends all to one cluster."""
    with tcp_bed(config({cluster: ports}, route(cluster, attempts=attempts))) as bed:
        yield bed


@contextlib.contextmanager
def servers(*scripts: Script) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server(script)) for script in scripts]


# -- routes --------------------------------------------------------------------------------------------


def test_a_port_without_routes_leads_to_its_own_cluster_and_the_server_may_speak_first() -> None:
    with server(telling(b"db")) as db, tcp_bed(config({"db": (db.port,)})) as bed:
        assert ask(bed) == b"db"
        eventually(lambda: len(bed.log.entries) == 1)
        entry = bed.log.entries[0]
        assert (entry.route, entry.upstream_cluster, entry.upstream_host) == (
            "default",
            "db",
            f"127.0.0.1:{db.port}",
        )


def test_connections_are_shared_by_weight() -> None:
    shares = (WeightedCluster(name="a", weight=9), WeightedCluster(name="b", weight=1))
    with servers(telling(b"a"), telling(b"b")) as (a, b):
        weighted = TcpRoute(name="r", clusters=shares)
        with tcp_bed(config({"a": (a.port,), "b": (b.port,)}, weighted)) as bed:
            for chance, expected in ((0.0, b"a"), (0.89, b"a"), (0.91, b"b"), (0.99, b"b")):
                bed.runtime.random = functools.partial(float, chance)
                assert ask(bed) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.example.com", b"exact"),
        ("A.EXAMPLE.COM", b"exact"),
        ("b.example.com", b"near"),
        ("x.b.example.com", b"near"),
        ("example.com", b"far"),
        ("other.com", b"far"),
        ("example.org", b"reset"),
        (None, b"reset"),
    ],
)
def test_the_most_exact_name_decides(name: str | None, expected: bytes) -> None:
    with servers(*(answering_hello(n) for n in (b"exact", b"near", b"far"))) as (exact, near, far):
        ports = {"exact": (exact.port,), "near": (near.port,), "far": (far.port,)}
        routes = (
            route("far", names=("*.com",)),
            route("near", names=("*.example.com",)),
            route("exact", names=("a.example.com",)),
        )
        with tcp_bed(config(ports, *routes)) as bed:
            sent = hello(name)
            answer = ask(bed, sent)
            assert answer == (expected if expected == b"reset" else expected + b":%d" % len(sent))


@pytest.mark.parametrize("data", [b"PING\r\n", hello("unknown.example"), hello(None)])
def test_what_no_name_takes_goes_the_default_way(data: bytes) -> None:
    with servers(answering_hello(b"tls"), answering_hello(b"rest")) as (tls, rest):
        routes = (route("tls", names=("a.example",)), route("rest"))
        with tcp_bed(config({"tls": (tls.port,), "rest": (rest.port,)}, *routes)) as bed:
            assert ask(bed, data) == b"rest:%d" % len(data)


def test_a_hello_in_many_segments_arrives_whole() -> None:
    with (
        server(echo) as tls,
        tcp_bed(config({"tls": (tls.port,)}, route("tls", names=("a.example",)))) as bed,
    ):
        sent = hello("a.example") + b"and more"
        with contextlib.closing(bed.connect()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(sent)):
                client.sendall(sent[at : at + 1])
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == sent
        assert bed.counter("tls_hellos_found_total") == 1


def test_a_client_that_ends_before_its_hello_is_whole_is_reset() -> None:
    with tcp_bed(config({"tls": (1,)}, route("tls", names=("a.example",)))) as bed:
        with contextlib.closing(bed.connect()) as client:
            client.sendall(hello("a.example")[:100])
            client.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["DC"])


def test_a_client_that_does_not_say_hello_is_not_waited_for_without_end() -> None:
    silent = config({"tls": (1,)}, route("tls", names=("a.example",)), hello_timeout=0.3)
    with tcp_bed(silent) as bed, contextlib.closing(bed.connect()) as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert bed.counter("tls_hello_timeouts_total") == 1


def test_a_cluster_that_does_not_exist_resets_its_share() -> None:
    with server(telling(b"a")) as a, tcp_bed(config({"a": (a.port,)}, route("a", "unresolved/b"))) as bed:
        for chance, expected in ((0.2, b"a"), (0.7, b"reset")):
            bed.runtime.random = functools.partial(float, chance)
            assert ask(bed) == expected
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["", "NC"])


def test_routes_change_for_new_connections_only() -> None:
    with servers(echo, telling(b"new")) as (old, new):
        ports = {"old": (old.port,), "new": (new.port,)}
        with tcp_bed(config(ports, route("old"))) as bed, contextlib.closing(bed.connect()) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            bed.apply(config(ports, route("new"), generation=2))
            assert ask(bed) == b"new"
            client.sendall(b"2")
            assert client.recv(1) == b"2"


# -- servers -------------------------------------------------------------------------------------------


def test_an_endpoint_that_refuses_is_followed_by_another() -> None:
    with server(telling(b"up")) as up, routed("db", closed_port(), up.port, attempts=2) as bed:
        assert [ask(bed) for _ in range(4)] == [b"up"] * 4
        assert bed.counter("upstream_connect_retries_total") >= 1


def test_without_attempts_left_the_client_is_reset() -> None:
    with tcp_bed(config({"db": (closed_port(),)}, route("db", attempts=2))) as bed:
        assert ask(bed) == b"reset"
        assert bed.counter("upstream_connect_failures_total") == 2
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["UF"])
        assert "ECONNREFUSED" in bed.log.entries[0].details


def test_no_healthy_endpoint_is_a_reset() -> None:
    with tcp_bed(config({"db": ()}, route("db"))) as bed:
        assert ask(bed) == b"reset"
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["UH"])


@contextlib.contextmanager
def no_answer() -> Iterator[int]:
    """A port that accepts no connection and refuses none."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # then the kernel answers no more SYNs
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield int(full.getsockname()[1])


def test_a_connect_to_an_endpoint_that_is_withdrawn_goes_elsewhere() -> None:
    with (
        server(telling(b"up")) as up,
        no_answer() as port,
        routed("db", port) as bed,
        contextlib.closing(bed.connect()) as client,
    ):
        eventually(lambda: bed.runtime.downstream_connections == 1)
        bed.apply(config({"db": (up.port,)}, route("db"), generation=2))
        assert receive_all(client) == b"up"


def test_a_connection_that_ends_as_its_endpoint_is_withdrawn_leaves_nothing() -> None:
    with (
        server(telling(b"up")) as up,
        no_answer() as port,
        routed("db", port) as bed,
        contextlib.closing(bed.connect()) as client,
    ):
        load = bed.runtime.loads.of("db")
        eventually(lambda: load.total(Resource.PENDING) == 1)

        def end() -> None:
            (session,) = bed.runtime.connections
            bed.runtime.config.apply(config({"db": (up.port,)}, route("db"), generation=2))
            session.check(bed.runtime.now)
            session.close_at_once()

        bed.call(end)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        eventually(lambda: load.total(Resource.PENDING) == load.total(Resource.CONNECTIONS) == 0)
        assert up.connections == bed.counter("upstream_connections_total") == 0


def test_connections_beyond_the_limit_are_reset_and_those_that_end_make_room() -> None:
    limited = Cluster(name="db", limits=Limits(connections=1))
    with server(echo) as db, tcp_bed(config({"db": (db.port,)}, route("db"), clusters=(limited,))) as bed:
        with contextlib.closing(bed.connect()) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert ask(bed) == b"reset"
        eventually(lambda: bed.runtime.downstream_connections == 0)
        with contextlib.closing(bed.connect()) as again:
            again.sendall(b"y")
            assert again.recv(1) == b"y"
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["UO", "", ""])


def test_connections_of_one_caller_are_hashed_to_one_endpoint() -> None:
    scripts = [telling(b"%d" % i) for i in range(5)]
    hashed = msgspec.structs.replace(route("db"), hash_source=True)
    ring = Cluster(name="db", balancing=RingHash())
    with servers(*scripts) as several:
        ports = {"db": tuple(each.port for each in several)}
        with tcp_bed(config(ports, hashed, clusters=(ring,))) as bed:
            assert len({ask(bed) for _ in range(8)}) == 1


def test_what_comes_of_connects_is_told_for_ejection() -> None:
    watched = Cluster(name="db", outlier=Outlier())
    told: list[EndpointTally] = []
    with (
        server(telling(b"up")) as up,
        tcp_bed(config({"db": (up.port,)}, route("db"), clusters=(watched,))) as bed,
    ):
        bed.runtime.outcomes.report = told.extend
        assert ask(bed) == b"up"
        refusing = closed_port()
        bed.apply(config({"db": (refusing,)}, route("db"), clusters=(watched,), generation=2))
        assert ask(bed) == b"reset"
        eventually(lambda: len(told) == 2)
        tallies = {tally.port: (tally.tally.requests, tally.tally.successes) for tally in told}
        assert tallies == {up.port: (1, 1), refusing: (1, 0)}


# -- bytes ---------------------------------------------------------------------------------------------

_BLOCK = bytes(range(256)) * 256
_BLOCKS = 256


def test_many_bytes_pass_both_ways_at_once_unchanged() -> None:
    with server(echo) as db, routed("db", db.port) as bed:
        with contextlib.closing(bed.connect(60)) as client:

            def send() -> None:
                for _ in range(_BLOCKS):
                    client.sendall(_BLOCK)
                client.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            got = hashlib.sha256()
            while piece := client.recv(1 << 20):
                got.update(piece)
            sender.join(60)
        assert got.digest() == hashlib.sha256(_BLOCK * _BLOCKS).digest()
        size = len(_BLOCK) * _BLOCKS
        eventually(lambda: [(row.received, row.sent) for row in bed.counts()] == [(size, size)])
        entry = bed.log.entries[0]
        assert (entry.bytes_received, entry.bytes_sent, entry.flags) == (size, size, "")


def test_a_reader_that_does_not_read_holds_the_writer_up() -> None:
    def flood(sock: socket.socket) -> None:
        for _ in range(_BLOCKS * 4):
            sock.sendall(_BLOCK)

    size = len(_BLOCK) * _BLOCKS * 4
    with server(flood) as db, routed("db", db.port) as bed, contextlib.closing(bed.connect(60)) as client:
        seen: list[int] = []

        def is_still() -> bool:
            rows = bed.counts()
            seen.append(rows[0].sent if rows else 0)
            return len(seen) > 60 and 0 < seen[-1] == seen[-40]

        eventually(is_still)
        assert seen[-1] < size / 2
        while piece := client.recv(1 << 20):
            size -= len(piece)
        assert size == 0


# -- ends ----------------------------------------------------------------------------------------------


def test_a_client_that_has_finished_sending_still_gets_its_answer() -> None:
    def late(sock: socket.socket) -> None:
        asked = receive_all(sock)
        sock.sendall(b"answer to " + asked)

    with server(late) as db, routed("db", db.port) as bed, contextlib.closing(bed.connect()) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"answer to question"


def test_a_server_that_has_finished_sending_still_gets_what_the_client_sends() -> None:
    got: list[bytes] = []

    def early(sock: socket.socket) -> None:
        sock.sendall(b"done")
        sock.shutdown(socket.SHUT_WR)
        got.append(receive_all(sock))

    with server(early) as db, routed("db", db.port) as bed:
        with contextlib.closing(bed.connect()) as client:
            assert receive_all(client) == b"done"
            client.sendall(b"late words")
        eventually(lambda: got == [b"late words"])


def test_a_servers_reset_reaches_the_client() -> None:
    def resetting(sock: socket.socket) -> None:
        sock.recv(1)
        send_reset(sock)

    with server(resetting) as db, routed("db", db.port) as bed:
        assert ask(bed, b"x") == b"reset"
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["UC"])
        assert bed.counts()[0].closed == {"UC": 1}


def test_a_clients_reset_reaches_the_server() -> None:
    ends: list[str] = []

    def waiting(sock: socket.socket) -> None:
        sock.sendall(b"x")
        try:
            ends.append(f"{sock.recv(1)!r}")
        except ConnectionResetError:
            ends.append("reset")

    with server(waiting) as db, routed("db", db.port) as bed:
        client = bed.connect()
        assert client.recv(1) == b"x"
        send_reset(client)
        eventually(lambda: ends == ["reset"])
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["DC"])


def test_a_connection_without_bytes_ends_after_its_idle_timeout() -> None:
    with server(echo) as db, tcp_bed(config({"db": (db.port,)}, route("db", idle=0.3))) as bed:
        with contextlib.closing(bed.connect()) as client, pytest.raises(ConnectionResetError):
            client.recv(1)
        assert bed.counter("tcp_idle_timeouts_total") == 1
        eventually(lambda: [entry.flags for entry in bed.log.entries] == ["SI"])


def test_a_workload_that_goes_takes_its_connections_along() -> None:
    with server(echo) as db, routed("db", db.port) as bed:
        with contextlib.closing(bed.connect()) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            assert bed.caller.connections() == 1
            bed.call(next(iter(bed.runtime.connections)).close_at_once)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert bed.caller.connections() == 0


def test_counts_of_connections_that_are_open() -> None:
    with server(echo) as db, routed("db", db.port) as bed:
        with contextlib.closing(bed.connect()) as client:
            client.sendall(b"four")
            assert client.recv(4) == b"four"
            eventually(lambda: [(row.opened, row.closed, row.received, row.sent) for row in bed.counts()]
                       == [(1, {}, 4, 4)])  # fmt: skip
        eventually(lambda: [row.closed for row in bed.counts()] == [{"": 1}])
        assert bed.counts()[0].seconds > 0
