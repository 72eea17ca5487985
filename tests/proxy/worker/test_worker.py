"""The worker process behind real capture, with the test as its agent."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from meshd.model.listeners import Protocol
from meshd.model.snapshot import Delta
from meshd.model.wire import Drain, Holding, RemoveWorkload
from tests.datapath.mesh import Mesh
from tests.proxy.worker.agent_end import WORKLOAD, AgentEnd, WorkerProcess
from tests.support.http_bed import (
    SERVICE_PORT,
    VIP,
    Script,
    Server,
    answering,
    config,
    eventually,
    get,
    ok,
    read_response,
    receive_all,
    receive_head,
)

VIP6 = "fd96::1"
Serve = Callable[[Script], Server]
NONE = dict.fromkeys(
    (
        *("downstream_connections", "upstream_connections", "workloads", "faults_active"),
        *("mirrored_requests", "demand_waiting"),
    ),
    0.0,
)


def both_families(delta: Delta) -> Delta:
    (listener,) = delta.listeners
    changed = {name: getattr(listener, name) for name in listener.__struct_fields__}
    changed["addresses"] = (VIP, VIP6)
    values = {name: getattr(delta, name) for name in delta.__struct_fields__}
    values["listeners"] = (type(listener)(**changed),)
    return Delta(**values)


def bring_up(mesh: Mesh, agent: AgentEnd, port: int, access_log: str = "") -> None:
    agent.configure(mesh, access_log)
    agent.update(both_families(config((port,))))
    agent.enrol(mesh, WORKLOAD)
    mesh.service((VIP, VIP6), SERVICE_PORT, Protocol.HTTP, [("127.0.0.1", port)], name="default/web")


def exchange(client: socket.socket) -> bytes:
    client.sendall(get())
    return read_response(client)[1]


def test_keep_alive_requests_through_capture(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    seen: list[bytes] = []
    web = serve(answering(ok(), seen))
    bring_up(mesh, agent, web.port)
    for address, forwarded_for in ((VIP, b"10.1.0.7"), (VIP6, b"fd00::7")):
        client = mesh.connect(address, SERVICE_PORT)
        for _ in range(5):
            assert exchange(client) == b"hello"
        assert b"x-forwarded-for: " + forwarded_for + b"\r\n" in seen[-1]
    assert web.connections == 1
    stats = agent.stats()
    assert stats.generation == 1
    assert stats.counters["downstream_connections_total"] == 2
    assert stats.gauges == {**NONE, "downstream_connections": 2, "upstream_connections": 1, "workloads": 1}
    assert [(row.source, row.status, row.count) for row in stats.requests] == [("default/client", 200, 10)]


def test_connection_that_capture_did_not_send_is_reset(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    bring_up(mesh, agent, 1)
    # On a busy machine the reset is there before connect(2) has returned.
    with pytest.raises(ConnectionResetError):
        mesh.connect("127.0.0.1", 15001).recv(1)
    assert agent.stats().counters["downstream_unknown_destination_total"] == 1


def test_update_is_in_force_when_it_is_answered(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    old, new = serve(answering(ok(b"old"))), serve(answering(ok(b"new")))
    bring_up(mesh, agent, old.port)
    client = mesh.connect(VIP, SERVICE_PORT)
    for generation in range(2, 20):
        server, body = ((old, b"old"), (new, b"new"))[generation % 2]
        agent.update(both_families(config((server.port,), generation=generation)))
        assert exchange(client) == body
    gone = Delta(generation=20, removed_listeners=("default/web:80",))
    agent.update(gone)
    assert client.recv(1) == b""


def test_a_whole_config_leaves_nothing_of_the_one_before(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    old, new = serve(answering(ok(b"old"))), serve(answering(ok(b"new")))
    bring_up(mesh, agent, old.port)
    client = mesh.connect(VIP, SERVICE_PORT)
    assert exchange(client) == b"old"
    agent.replace(both_families(config((new.port,), generation=9)))
    assert exchange(client) == b"new"
    agent.replace(Delta(generation=10))
    assert client.recv(1) == b""
    assert agent.stats().generation == 10


def test_a_workload_that_changes_keeps_its_connections(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    seen: list[bytes] = []
    web = serve(answering(ok(), seen))
    bring_up(mesh, agent, web.port)
    client = mesh.connect(VIP, SERVICE_PORT)
    assert exchange(client) == b"hello"
    files = worker.open_files()
    agent.enrol(mesh, msgspec.structs.replace(WORKLOAD, ips=("10.1.0.8",), labels={"version": "2"}))
    assert worker.open_files() == files
    assert exchange(client) == b"hello"
    assert b"x-forwarded-for: 10.1.0.8\r\n" in seen[-1]
    assert web.connections == 1


def test_worker_outlives_its_agent_and_gives_its_listeners_back(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    web = serve(answering(ok()))
    bring_up(mesh, agent, web.port)
    client = mesh.connect(VIP, SERVICE_PORT)
    assert exchange(client) == b"hello"
    agent.hang_up()
    assert exchange(client) == b"hello"
    assert exchange(mesh.connect(VIP, SERVICE_PORT)) == b"hello"
    hello = agent.accept()
    assert (hello.generation, hello.workloads) == (1, ("u-1",))
    holding, fds = agent.receive(Holding)
    assert holding.workload == WORKLOAD
    _, *listeners = (socket.socket(fileno=fd) if i else fd for i, fd in enumerate(fds))
    names = []
    for listener in listeners:
        assert isinstance(listener, socket.socket)
        names.append(listener.getsockname()[:2])
        listener.close()
    assert names == [("127.0.0.1", 15001), ("::1", 15001)]
    agent.configure(mesh)
    assert exchange(mesh.connect(VIP, SERVICE_PORT)) == b"hello"
    assert exchange(client) == b"hello"


def test_workloads_come_and_go_without_a_trace(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    web = serve(answering(ok()))
    bring_up(mesh, agent, web.port)
    agent.send(RemoveWorkload(uid="u-1"))
    agent.stats()
    files = worker.open_files()
    for _ in range(20):
        agent.enrol(mesh, WORKLOAD)
        client = mesh.connect(VIP, SERVICE_PORT)
        assert exchange(client) == b"hello"
        agent.send(RemoveWorkload(uid="u-1"))
        assert client.recv(1) == b""
    agent.stats()
    eventually(lambda: worker.open_files() == files)
    assert agent.stats().gauges == NONE


def test_half_close_waits_and_close_cancels(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    cancelled: list[bool] = []

    def slow(sock: socket.socket) -> None:
        head = receive_head(sock)
        if head.startswith(b"GET /close"):
            try:
                cancelled.append(sock.recv(1) == b"")
            except ConnectionResetError:
                cancelled.append(True)
            return
        sock.settimeout(1)
        try:
            sock.recv(1)
        except TimeoutError:
            sock.sendall(ok())

    bring_up(mesh, agent, serve(slow).port)
    client = mesh.connect(VIP, SERVICE_PORT)
    client.sendall(get(b"/half"))
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client).endswith(b"hello")
    client = mesh.connect(VIP, SERVICE_PORT)
    client.sendall(get(b"/close"))
    eventually(lambda: agent.stats().gauges["upstream_connections"] == 1)
    client.close()
    eventually(lambda: cancelled == [True])
    eventually(lambda: {row.flags for row in agent.stats().requests} == {"", "DC"})


def test_drain_lets_the_request_in_flight_end(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    go_on: list[bool] = []

    def slow(sock: socket.socket) -> None:
        receive_head(sock)
        eventually(lambda: go_on)
        sock.sendall(ok())
        sock.recv(1)

    bring_up(mesh, agent, serve(slow).port)
    idle, busy = mesh.connect(VIP, SERVICE_PORT), mesh.connect(VIP, SERVICE_PORT)
    busy.sendall(get())
    eventually(lambda: agent.stats().gauges["upstream_connections"] == 1)
    agent.send(Drain(seconds=10))
    assert idle.recv(1) == b""
    go_on.append(True)
    data = receive_all(busy)
    assert b"\r\nConnection: close\r\n" in data
    assert data.endswith(b"hello")
    assert "Traceback" not in worker.ended()


def test_access_log_file_and_its_rotation(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve, tmp_path: Path
) -> None:
    web = serve(answering(ok()))
    path = tmp_path / "access.log"
    bring_up(mesh, agent, web.port, str(path))
    client = mesh.connect(VIP, SERVICE_PORT)
    assert exchange(client) == b"hello"
    eventually(lambda: path.read_text().endswith("\n"))
    entry = json.loads(path.read_text())
    assert entry["response_code"] == 200
    assert entry["source_workload"] == "default/client"
    assert entry["downstream_local_address"] == f"{VIP}:{SERVICE_PORT}"
    path.rename(tmp_path / "access.log.1")
    worker.signal(signal.SIGUSR1)
    eventually(path.exists)
    assert exchange(client) == b"hello"
    eventually(lambda: path.read_text().count("\n") == 1)


def _ask_all(clients: Sequence[socket.socket]) -> None:
    for client in clients:
        client.sendall(get())
    for client in clients:
        assert read_response(client)[1] == b"hello"


def test_ten_thousand_keep_alive_connections(
    mesh: Mesh, agent: AgentEnd, worker: WorkerProcess, serve: Serve
) -> None:
    count = 10_000
    bring_up(mesh, agent, serve(answering(ok())).port)
    with mesh.connect(VIP, SERVICE_PORT) as client:
        assert exchange(client) == b"hello"
    before = worker.resident_bytes()
    clients: list[socket.socket] = []
    while len(clients) < count:  # none is silent for long: that would end it
        batch = [mesh.connect(VIP, SERVICE_PORT) for _ in range(100)]
        _ask_all(batch)
        clients += batch
    for start in range(0, count, 100):
        _ask_all(clients[start : start + 100])
    eventually(lambda: agent.stats().gauges["downstream_connections"] == count)
    each = (worker.resident_bytes() - before) / count
    print(f"{each / 1024:.1f} KB resident for each of {count} idle keep-alive connections")
    assert each < 40 * 1024
