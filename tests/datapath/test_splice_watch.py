"""Who calls splice(2) is seen, and found among the workloads when a socket of theirs is the mesh's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from meshd.agent.tcp_sockets import tcp_sockets
from meshd.datapath.flows.captured_sockets import CapturedSockets
from meshd.datapath.splicing import watch as splice_watch
from meshd.datapath.splicing.watch import SpliceWatch
from meshd.model.listeners import Protocol
from tests.datapath.mesh import Mesh

SPLICER = """
import os, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
print("connected", flush=True)
sys.stdin.readline()
read, write = os.pipe()
sock.setblocking(False)
try:
    os.splice(sock.fileno(), write, 100)
except BlockingIOError:
    pass
print("spliced", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def watch() -> Iterator[SpliceWatch]:
    made = splice_watch.load()
    try:
        yield made
    finally:
        made.close()


def test_calls_are_seen_while_it_is_on_and_only_then(watch: SpliceWatch) -> None:
    read, write = os.pipe()
    _, into = os.pipe()
    os.write(write, b"x" * 20)
    os.splice(read, into, 5)
    assert os.getpid() not in watch.take()
    with watch.on():
        os.splice(read, into, 5)
    assert os.getpid() in watch.take()
    assert os.getpid() not in watch.take()


def test_a_process_of_the_mesh_is_known_by_its_sockets(mesh: Mesh, watch: SpliceWatch) -> None:
    mesh.service(["10.96.0.1"], 80, Protocol.HTTP)
    datapath = mesh.datapath
    sockets = CapturedSockets(datapath.open_map, datapath.layout)
    mesh.alive(True)
    with mesh.pod.entered():
        client = subprocess.Popen(
            [sys.executable, "-c", SPLICER, "10.96.0.1", "80"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        with watch.on():
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "spliced\n"
        assert client.pid in watch.take()
        (found,) = tcp_sockets(client.pid)
        assert found.remote == ("127.0.0.1", 15001)
        assert sockets.has(mesh.pod.cookie, *found)
    finally:
        client.kill()
        client.communicate()
        sockets.close()
    assert tcp_sockets(client.pid) == []


def test_ipv6_ends_are_read(mesh: Mesh) -> None:
    listener = mesh.listen("::1")
    with mesh.pod.entered():
        client = subprocess.Popen(
            [sys.executable, "-c", SPLICER, "::1", str(listener.getsockname()[1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        (found,) = tcp_sockets(client.pid)
        assert found.remote == ("::1", listener.getsockname()[1])
        assert found.local[0] == "::1"
    finally:
        client.kill()
        client.communicate()
