"""Spliced HTTP/2 connections that the kernel carries, on real sockets: each byte in order, and back again."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from meshd.datapath.flows.enrolled_sockets import EnrolledSockets, Side
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.routes import Forward, Route, WeightedCluster
from meshd.model.wire import Drain
from tests.proxy.spliced.made_frames import DATA, PREFACE, SETTINGS, Frame
from tests.proxy.spliced.talk import Talk, exactly, keeping, wait_for
from tests.proxy.worker import busy_caller
from tests.proxy.worker.agent_end import WorkerProcess
from tests.proxy.worker.echo_server import Echo
from tests.proxy.worker.fast_path_bed import FastPathBed
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Http2Server, serving
from tests.support.http_bed import SERVICE_PORT, VIP, Script, Server, eventually

CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)
PLAIN = Route(name="plain", action=Forward(clusters=(WeightedCluster(name="web"),)))
MOST_REDIRECTED = (8 << 20) + 65536
"""MESHD_MAX_REDIRECTED, and a message."""
CALLS = 100
"""Between two changes of the config, at least."""
TIMED = Route(name="timed", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=9.0))


def spliced(bed: FastPathBed, script: Script, far: bool = False) -> Server:
    """A server whose clients' connections are spliced with ones to it."""
    web = bed.serve(script, far)
    bed.configure([web], (PLAIN,), cluster=CLUSTER, spliced=True)
    return web


def leave(bed: FastPathBed, web: Server) -> None:
    """Another config, by which they are not."""
    bed.configure([web], (TIMED,), cluster=CLUSTER, spliced=True)


def redirected(bed: FastPathBed) -> tuple[int, int]:
    """Bytes that the kernel has redirected on all connections: from clients, and to them."""
    datapath = bed.mesh.datapath
    unpack = datapath.layout.codec("spliced", "up.bytes", "down.bytes").unpack
    with contextlib.closing(datapath.open_map("spliced")) as connections:
        found = [unpack(value) for _, value in connections.items()]
    return sum(up for up, _ in found), sum(down for _, down in found)


def counter(bed: FastPathBed, name: str) -> float:
    return bed.agent.stats().counters.get(name, 0)


def test_all_but_the_first_bytes_are_redirected_and_requests_counted(bed: FastPathBed) -> None:
    spliced(bed, serving)
    with Http2Client(bed.connect()) as client:
        for _ in range(50):
            assert client.get().body == b"hello"
        up, down = redirected(bed)
        assert up > 40 * 9
        assert down > 50 * 9
        with contextlib.closing(
            EnrolledSockets(bed.mesh.datapath.open_map, bed.mesh.datapath.layout)
        ) as sockets:
            ends = client.sock.getsockname(), client.sock.getpeername()
            enrolled = sockets.find(bed.mesh.pod.cookie, *ends)
        assert enrolled is not None
        assert (enrolled.side, enrolled.spliced) == (Side.CLIENT, True)
        eventually(lambda: counter(bed, "http2_spliced_requests_total") == 50)
    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    stats = bed.agent.stats()
    (row,) = stats.tcp
    assert (row.opened, row.service, row.cluster) == (1, "default/web:80", "web")
    assert row.received > up
    assert row.sent >= down
    assert stats.requests == ()
    assert redirected(bed) == (0, 0)


def test_to_another_node_it_is_spliced_by_the_proxy(bed: FastPathBed) -> None:
    spliced(bed, serving, far=True)
    with Http2Client(bed.connect()) as client:
        for _ in range(5):
            assert client.get().body == b"hello"
        assert redirected(bed) == (0, 0)
        assert counter(bed, "http2_spliced_connections_total") == 1


def test_another_config_takes_the_connection_back_from_the_kernel(bed: FastPathBed) -> None:
    wait, go = threading.Event(), threading.Event()
    web = spliced(bed, _holding(wait, go))
    with Http2Client(bed.connect()) as client:
        for _ in range(5):
            assert client.get().body == b"hello"
        stream = client.request(client.head(b"GET", b"/held"))
        assert wait.wait(60)
        leave(bed, web)
        client.until(lambda: len(client.goaways) == 2)
        assert [(each.last_stream, each.code) for each in client.goaways] == [(2**31 - 1, 0), (stream, 0)]
        before = redirected(bed)
        go.set()
        assert client.answer(stream).body == b"hello"
        assert redirected(bed) == before
    eventually(lambda: counter(bed, "http2_spliced_requests_total") == 6)


def _holding(wait: threading.Event, go: threading.Event) -> Script:
    """Answers, but for one path: that when ``go`` is set."""

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            if request[b":path"] == b"/held":
                wait.set()
                assert go.wait(60)
            peer.respond(request.stream)

    return script


def test_bytes_are_right_wherever_the_way_changes(bed: FastPathBed) -> None:
    accepted: list[socket.socket] = []
    done = threading.Event()
    script = keeping(accepted, done)
    web = spliced(bed, script)
    try:
        talks = [Talk(bed.connect(), accepted, seed) for seed in range(4)]
        for talk in talks:
            talk.send(60)
        assert min(redirected(bed)) > 0
        changing = Talk.running(lambda: leave(bed, web))
        for talk in talks:
            talk.send(60)
        wait_for(changing)
        for talk in talks:
            while talk.client.goaways < 2:
                talk.send(1)
            talk.end()
            talk.check()
    finally:
        done.set()


def test_a_reader_that_lags_is_sent_no_more_than_a_bound_and_then_the_rest(bed: FastPathBed) -> None:
    frame = Frame(DATA, 0, 1, bytes(i * 31 % 256 for i in range(16384))).packed()
    count = 1600
    answered = threading.Event()

    def script(sock: socket.socket) -> None:
        exactly(sock, len(PREFACE) + 9)
        for _ in range(count):
            sock.sendall(frame)
        while data := sock.recv(65536):
            sock.sendall(data)
            answered.set()

    spliced(bed, script)
    before = bed.mesh.counted("splice_lagged")
    with bed.connect() as client:
        client.sendall(PREFACE + Frame(SETTINGS).packed())
        eventually(lambda: bed.mesh.counted("splice_lagged") == before + 1)
        assert MOST_REDIRECTED / 2 < redirected(bed)[1] < MOST_REDIRECTED
        for _ in range(count):
            assert exactly(client, len(frame)) == frame
        ways = redirected(bed)
        # All is read, and seen to be when the client sends: then it is the kernel's again.
        for _ in range(50):
            client.sendall(frame)
            assert exactly(client, len(frame)) == frame
        assert redirected(bed)[1] > ways[1]


def test_the_fast_path_may_go_and_come_back(bed: FastPathBed) -> None:
    spliced(bed, serving)
    datapath = bed.mesh.datapath
    with Http2Client(bed.connect()) as client:
        assert [client.get().body for _ in range(5)] == [b"hello"] * 5
        datapath.configure(60.0, fast_path=False)
        before = redirected(bed)
        assert before[0] > 0
        assert [client.get().body for _ in range(5)] == [b"hello"] * 5
        assert redirected(bed) == before
        datapath.configure(60.0, fast_path=True)
        assert [client.get().body for _ in range(5)] == [b"hello"] * 5
        after = redirected(bed)
        assert after[0] > before[0]
        assert after[1] > before[1]
        bed.agent.configure(bed.mesh, fast_path=True)
        assert [client.get().body for _ in range(5)] == [b"hello"] * 5
        assert redirected(bed)[0] > after[0]
        eventually(lambda: counter(bed, "http2_spliced_requests_total") == 20)


def test_a_worker_that_ends_asks_its_clients_to_go(bed: FastPathBed, worker: WorkerProcess) -> None:
    spliced(bed, serving)
    with Http2Client(bed.connect()) as client:
        assert client.get().body == b"hello"
        bed.agent.send(Drain(seconds=60))
        client.until(lambda: client.goaways)
    worker.ended()


# -- gRPC's own client and server ---------------------------------------------------------------------


@pytest.fixture
def echo(bed: FastPathBed) -> Iterator[Echo]:
    with bed.mesh.pod.entered():
        server = Echo()
    try:
        yield server
    finally:
        server.close()


def test_no_call_fails_when_the_config_changes_under_load(bed: FastPathBed, echo: Echo) -> None:
    def change(weight: int, spliced: bool = True) -> None:
        routes = (PLAIN if spliced else TIMED,)
        bed.configure([echo], routes, cluster=CLUSTER, weights=[weight], spliced=True)

    change(1)
    with bed.mesh.pod.entered():
        caller = subprocess.Popen(
            [sys.executable, busy_caller.__file__, f"ipv4:{VIP}:{SERVICE_PORT}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        _wait_for_calls(echo, caller)
        for weight, spliced in ((2, True), (3, True), (4, True), (4, False)):
            eventually(lambda: redirected(bed)[0] > 0)
            known = len(echo.peers)
            change(weight, spliced)
            # The client comes again, on a connection that is decided on by the config of now.
            eventually(lambda: len(echo.peers) > known or caller.poll() is not None)  # noqa: B023
            _wait_for_calls(echo, caller)
        out, _ = caller.communicate("", timeout=60)
        found = json.loads(out)
        assert found["failures"] == []
        assert found["answered"] == echo.calls
        assert counter(bed, "http2_spliced_goaways_total") >= 4
        eventually(lambda: _counted(bed) == echo.calls)
    finally:
        caller.kill()
        caller.wait()


def _counted(bed: FastPathBed) -> float:
    """Requests, of spliced connections and of others."""
    return counter(bed, "http2_spliced_requests_total") + sum(bed.statuses().values())


def _wait_for_calls(echo: Echo, caller: subprocess.Popen[str]) -> None:
    """That some are answered, all on connections that are made by now."""
    wanted = echo.calls + CALLS
    eventually(lambda: echo.calls >= wanted or caller.poll() is not None)
    assert caller.poll() is None
