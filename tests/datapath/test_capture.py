"""What becomes of a connect(2) from a member namespace, on the real kernel."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from meshd.datapath.flows.table import OriginalDestination
from meshd.datapath.services.uses import ServiceUses
from meshd.model.listeners import FailurePolicy, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute
from tests.datapath.mesh import PORT, Mesh
from tests.support.http_bed import eventually
from tests.support.netns import join, namespace

VIP4 = "10.96.0.10"
VIP6 = "fd00:10:96::a"
SO_MARK = 36

_libc = ctypes.CDLL(None, use_errno=True)


@pytest.mark.parametrize(
    ("target", "shown", "listener"),
    [
        (VIP4, VIP4, "proxy4"),
        (VIP6, VIP6, "proxy6"),
        (f"::ffff:{VIP4}", VIP4, "proxy4"),
    ],
)
def test_http_goes_to_the_in_pod_listener(mesh: Mesh, target: str, shown: str, listener: str) -> None:
    mesh.service([VIP4, VIP6], 80, Protocol.HTTP)
    before = mesh.counted("captured")
    client = mesh.connect(target, 80)
    accepted = mesh.accept(getattr(mesh, listener))
    assert mesh.record(accepted) == OriginalDestination(shown, 80)
    assert client.getpeername()[:2] == (target, 80)
    client.sendall(b"ping")
    assert accepted.recv(10) == b"ping"
    assert mesh.counted("captured") == before + 1


@pytest.mark.parametrize("target", [VIP4, f"::ffff:{VIP4}"])
def test_opaque_tcp_goes_to_an_ipv4_endpoint(mesh: Mesh, target: str) -> None:
    server = mesh.listen("127.0.0.2")
    mesh.service([VIP4, VIP6], 5432, Protocol.TCP, [("127.0.0.2", server.getsockname()[1]), ("fd00::1", 1)])
    before = mesh.counted("balanced")
    client = mesh.connect(target, 5432)
    accepted = mesh.accept(server)
    assert client.getpeername()[:2] == (target, 5432)
    accepted.sendall(b"server first")
    assert client.recv(20) == b"server first"
    assert mesh.counted("balanced") == before + 1
    assert mesh.datapath.flow_count() == 0


def test_opaque_tcp_goes_to_an_ipv6_endpoint(mesh: Mesh) -> None:
    server = mesh.listen("::1")
    mesh.service([VIP4, VIP6], 5432, Protocol.TCP, [("::1", server.getsockname()[1]), ("127.0.0.9", 1)])
    client = mesh.connect(VIP6, 5432)
    mesh.accept(server)
    assert client.getpeername()[:2] == (VIP6, 5432)


def test_opaque_tcp_without_an_endpoint_of_the_family_is_refused(mesh: Mesh) -> None:
    mesh.service([VIP4, VIP6], 5432, Protocol.TCP, [("::1", 1)])
    before = mesh.counted("no_endpoint")
    with pytest.raises(ConnectionRefusedError):
        mesh.connect(VIP4, 5432)
    assert mesh.counted("no_endpoint") == before + 1


@pytest.mark.parametrize("target", [VIP4, VIP6, f"::ffff:{VIP4}"])
def test_without_a_heartbeat_an_open_service_goes_to_an_endpoint(mesh: Mesh, target: str) -> None:
    server = mesh.listen("::1" if target == VIP6 else "127.0.0.2")
    mesh.service([VIP4, VIP6], 80, Protocol.HTTP, [server.getsockname()[:2]])
    mesh.alive(False)
    before = mesh.counted("failed_open")
    client = mesh.connect(target, 80)
    mesh.accept(server)
    assert client.getpeername()[:2] == (target, 80)
    assert mesh.counted("failed_open") == before + 1
    mesh.alive(True)
    mesh.connect(target, 80)
    mesh.accept(mesh.proxy6 if target == VIP6 else mesh.proxy4)


def test_without_a_heartbeat_an_open_service_of_unknown_endpoints_is_left_alone(mesh: Mesh) -> None:
    mesh.pod.ip("address", "add", f"{VIP4}/32", "dev", "lo")
    beyond = mesh.listen(VIP4, 80)
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.alive(False)
    client = mesh.connect(VIP4, 80)
    mesh.accept(beyond)
    assert client.getpeername() == (VIP4, 80)


@pytest.mark.parametrize("target", [VIP4, VIP6, f"::ffff:{VIP4}"])
def test_without_a_heartbeat_a_closed_service_refuses(mesh: Mesh, target: str) -> None:
    server = mesh.listen("127.0.0.2")
    mesh.service([VIP4, VIP6], 80, Protocol.HTTP, [server.getsockname()[:2]], policy=FailurePolicy.CLOSED)
    mesh.alive(False)
    before = mesh.counted("failed_closed")
    with pytest.raises(ConnectionRefusedError):
        mesh.connect(target, 80)
    assert mesh.counted("failed_closed") == before + 1
    mesh.alive(True)
    mesh.connect(target, 80)


def test_when_a_service_was_called_last_and_who_is_connected_is_known(mesh: Mesh) -> None:
    datapath = mesh.datapath
    uses = ServiceUses(datapath.open_map("services"), datapath.open_map("flows"), datapath.layout)
    with contextlib.closing(uses):
        mesh.service([VIP4, VIP6], 80, Protocol.HTTP)
        before = time.monotonic()
        assert uses.last([(VIP4, 80), (VIP6, 80), ("10.96.0.99", 1)]) < before
        client = mesh.connect(VIP4, 80)
        accepted = mesh.accept(mesh.proxy4)
        assert before <= uses.last([(VIP6, 80), (VIP4, 80)]) <= time.monotonic()
        assert uses.last([(VIP6, 80)]) < before
        assert uses.connected() == {(VIP4, 80)}
        accepted.close()
        client.close()
        eventually(lambda: uses.connected() == frozenset())


def test_a_beat_ages(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP, policy=FailurePolicy.CLOSED)
    mesh.datapath.configure(heartbeat_timeout=1e-9, fast_path=False)
    try:
        with pytest.raises(ConnectionRefusedError):
            mesh.connect(VIP4, 80)
    finally:
        mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=False)
    mesh.connect(VIP4, 80)


def test_what_is_no_service_passes_untouched(mesh: Mesh) -> None:
    mesh.pod.ip("address", "add", f"{VIP4}/32", "dev", "lo")
    mesh.pod.ip("address", "add", "10.244.1.7/32", "dev", "lo")
    mesh.service([VIP4], 80, Protocol.HTTP)
    for address, port in ((VIP4, 81), ("10.244.1.7", 80), ("127.0.0.1", 80)):
        server = mesh.listen(address, port)
        client = mesh.connect(address, port)
        accepted = mesh.accept(server)
        assert client.getpeername() == (address, port)
        assert accepted.getsockname() == (address, port)
        with pytest.raises(OSError, match="refused"):
            mesh.connect(address, port + 1000)


def test_udp_passes_untouched(mesh: Mesh) -> None:
    mesh.pod.ip("address", "add", f"{VIP4}/32", "dev", "lo")
    mesh.service([VIP4], 80, Protocol.HTTP)
    server = mesh.client(kind=socket.SOCK_DGRAM)
    server.bind((VIP4, 80))
    client = mesh.client(kind=socket.SOCK_DGRAM)
    client.connect((VIP4, 80))
    assert client.getpeername() == (VIP4, 80)
    client.send(b"datagram")
    assert server.recv(20) == b"datagram"


def test_another_namespace_is_untouched(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    with namespace() as stranger:
        stranger.ip("address", "add", f"{VIP4}/32", "dev", "lo")
        beyond = mesh.listen(VIP4, 80, in_netns=stranger)
        with stranger.entered():
            client = socket.create_connection((VIP4, 80), timeout=60)
        with client:
            mesh.accept(beyond)
            assert client.getpeername() == (VIP4, 80)
    mesh.datapath.remove_member(mesh.pod.cookie)
    with pytest.raises(OSError, match="unreachable"):
        mesh.connect(VIP4, 80)


@pytest.mark.parametrize("carried", [True, False])
def test_the_proxys_own_sockets_are_exempt(mesh: Mesh, carried: bool) -> None:
    mesh.pod.ip("address", "add", f"{VIP4}/32", "dev", "lo")
    beyond = mesh.listen(VIP4, 80)
    mesh.service([VIP4], 80, Protocol.HTTP)
    upstream = mesh.client()
    mark = mesh.datapath.mark if carried else mesh.datapath.plain_mark
    upstream.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    upstream.connect((VIP4, 80))
    mesh.accept(beyond)


@pytest.mark.parametrize("policy", FailurePolicy)
def test_a_socket_bound_to_a_device_cannot_reach_the_proxy(mesh: Mesh, policy: FailurePolicy) -> None:
    with namespace() as other:
        join(mesh.pod, ("10.244.1.2/24",), other, ("10.244.1.3/24",))
        server = mesh.listen("10.244.1.3", in_netns=other)
        mesh.service([VIP4], 80, Protocol.HTTP, [server.getsockname()], policy=policy)
        before = mesh.counted("bound_to_device")
        client = mesh.client()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        if policy is FailurePolicy.CLOSED:
            with pytest.raises(ConnectionRefusedError):
                client.connect((VIP4, 80))
        else:
            client.connect((VIP4, 80))
            mesh.accept(server)
            assert client.getpeername() == (VIP4, 80)
        assert mesh.counted("bound_to_device") == before + 1


def test_a_socket_bound_to_loopback_reaches_the_proxy(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    client = mesh.client()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    client.connect((VIP4, 80))
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP4, 80)


@pytest.mark.parametrize(
    ("own", "vip", "listener"),
    [
        ("10.244.1.2", VIP4, "proxy4"),
        ("fd00:10:244::2", VIP6, "proxy6"),
        ("::ffff:10.244.1.2", f"::ffff:{VIP4}", "proxy4"),
    ],
)
def test_a_socket_bound_to_an_address_is_captured(mesh: Mesh, own: str, vip: str, listener: str) -> None:
    with namespace() as other:
        join(mesh.pod, ("10.244.1.2/24", "fd00:10:244::2/64"), other, ())
        other.ip("link", "set", "eth0", "up")
        mesh.service([VIP4, VIP6], 80, Protocol.HTTP)
        client = mesh.client(socket.AF_INET6 if ":" in own else socket.AF_INET)
        client.bind((own, 0))
        client.connect((vip, 80))
        accepted = mesh.accept(getattr(mesh, listener))
        assert mesh.record(accepted) == OriginalDestination(vip.removeprefix("::ffff:"), 80)


def test_a_non_blocking_connect_is_captured(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    client = mesh.client()
    client.setblocking(False)
    assert client.connect_ex((VIP4, 80)) in (0, errno.EINPROGRESS)
    assert select.select([], [client], [], 5)[1]
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP4, 80)


def test_fast_open_is_captured(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    client = mesh.client()
    client.setblocking(True)
    client.sendto(b"early", socket.MSG_FASTOPEN, (VIP4, 80))
    accepted = mesh.accept(mesh.proxy4)
    assert mesh.record(accepted) == OriginalDestination(VIP4, 80)
    assert accepted.recv(10) == b"early"


def test_a_socket_connected_anew_loses_its_record(mesh: Mesh) -> None:
    server = mesh.listen("127.0.0.3", 7777)
    mesh.service([VIP4], 80, Protocol.HTTP)
    client = mesh.connect(VIP4, 80)
    mesh.accept(mesh.proxy4)
    _disconnect(client)
    assert mesh.datapath.flow_count() == 0
    client.connect(("127.0.0.3", 7777))
    mesh.accept(server)
    assert client.getpeername() == ("127.0.0.3", 7777)
    _disconnect(client)
    client.connect((VIP4, 80))
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP4, 80)


def test_a_member_without_ipv6_listener_fails_as_if_the_proxy_were_gone(mesh: Mesh) -> None:
    mesh.datapath.set_member(mesh.pod.cookie, PORT, ipv6=False)
    server = mesh.listen("::1")
    mesh.service([VIP4, VIP6], 80, Protocol.HTTP, [server.getsockname()[:2]])
    mesh.connect(VIP6, 80)
    mesh.accept(server)
    mesh.connect(VIP4, 80)
    mesh.accept(mesh.proxy4)


def test_nobody_forges_a_record(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.connect("127.0.0.1", PORT)
    assert mesh.record(mesh.accept(mesh.proxy4)) is None


def test_flows_end_with_their_connections(mesh: Mesh) -> None:
    mesh.service([VIP4, VIP6], 80, Protocol.HTTP)
    vips = (VIP4, VIP6, f"::ffff:{VIP4}")
    for number in range(2000):
        client = mesh.connect(vips[number % 3], 80)
        accepted = mesh.accept(mesh.proxy6 if number % 3 == 1 else mesh.proxy4)
        first, second = (client, accepted) if number % 2 else (accepted, client)
        if number % 10 == 0:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        first.close()
        second.close()
    assert mesh.datapath.flow_count() == 0
    assert list(_keys(mesh)) == []


def test_a_refused_connection_leaves_no_flow(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.proxy4.close()
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            mesh.connect(VIP4, 80)
    assert mesh.datapath.flow_count() == 0
    assert list(_keys(mesh)) == []


def test_flow_count_is_what_the_map_holds(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    for expected in range(1, 6):
        mesh.connect(VIP4, 80)
        mesh.accept(mesh.proxy4)
        assert mesh.datapath.flow_count() == len(_keys(mesh)) == expected


def test_weights_are_shares(mesh: Mesh) -> None:
    heavy, light, none = (mesh.listen(f"127.0.0.{number}") for number in (4, 5, 6))
    endpoints = [(*heavy.getsockname(), 3), (*light.getsockname(), 1), (*none.getsockname(), 0)]
    mesh.service([VIP4], 5432, Protocol.TCP, endpoints)
    count = 600
    clients = [mesh.connect(VIP4, 5432) for _ in range(count)]
    hits = {heavy: 0, light: 0, none: 0}
    for _ in clients:
        for ready in select.select(list(hits), [], [], 0)[0][:1]:
            mesh.accept(ready)
            hits[ready] += 1
    assert sum(hits.values()) == count
    assert hits[none] == 0
    # 450 expected, with a standard deviation of 10.6
    assert 390 < hits[heavy] < 510


def test_an_endpoint_change_never_loses_a_connect(mesh: Mesh) -> None:
    servers = [mesh.listen(f"127.0.0.{number}") for number in (4, 5)]
    for number in range(300):
        chosen = [servers[number % 2].getsockname()] * (1 + number % 3)
        mesh.service([VIP4], 5432, Protocol.TCP, [(*address, 1 + i) for i, address in enumerate(chosen)])
        mesh.connect(VIP4, 5432).close()
        mesh.accept(servers[number % 2]).close()


def test_endpoints_change_under_traffic(mesh: Mesh) -> None:
    """A connect that meets the change between the kernel's two lookups finds the other generation."""
    servers = [mesh.listen(f"127.0.0.{number}") for number in (4, 5)]
    mesh.service([VIP4], 5432, Protocol.TCP, [servers[0].getsockname()])
    stop, failures, connections = threading.Event(), [], 0

    def connect() -> None:
        nonlocal connections
        while not stop.is_set():
            with mesh.pod.entered():
                client = socket.socket()
            with client:
                client.settimeout(60)
                try:
                    client.connect((VIP4, 5432))
                    select.select(servers, [], [])[0][0].accept()[0].close()
                except OSError as error:
                    failures.append(error)
            connections += 1

    thread = threading.Thread(target=connect)
    thread.start()
    for number in range(100_000):
        mesh.service([VIP4], 5432, Protocol.TCP, [servers[number % 2].getsockname()])
        if number >= 2000 and connections > 50:
            break
    stop.set()
    thread.join()
    assert failures == []
    assert connections > 50


CLIENT = """
import socket, sys, time
from pathlib import Path
from meshd import netns
Path(sys.argv[1], "cgroup.procs").write_text("0")
netns.enter(int(sys.argv[2]))
client = socket.create_connection((sys.argv[3], 80))
print("up", flush=True)
time.sleep(60)
"""


def test_a_killed_pod_leaves_no_flow(mesh: Mesh, cgroup: Path) -> None:
    """Its process, its cgroup: the kernel calls the programs for the socket that outlives both."""
    mesh.service([VIP4], 80, Protocol.HTTP)
    group = cgroup / "pod"
    group.mkdir()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(group), str(mesh.pod.fd), VIP4],
            pass_fds=[mesh.pod.fd],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            accepted = mesh.accept(mesh.proxy4)
            assert mesh.datapath.flow_count() == 1
            process.kill()
    finally:
        group.rmdir()
    accepted.close()
    _until_no_flows(mesh)
    assert _keys(mesh) == []


def test_removed_services_are_captured_no_more(mesh: Mesh) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.connect(VIP4, 80)
    mesh.datapath.apply(Snapshot(), Snapshot())
    with pytest.raises(OSError, match="unreachable"):
        mesh.connect(VIP4, 80)


def _disconnect(client: socket.socket) -> None:
    """connect(2) to AF_UNSPEC, which the socket module has no words for."""
    if _libc.connect(client.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _keys(mesh: Mesh) -> list[bytes]:
    opened = mesh.datapath.open_map("flows")
    try:
        return list(opened)
    finally:
        opened.close()


def test_mptcp_is_captured_as_tcp_is(mesh: Mesh) -> None:
    """Go makes MPTCP sockets where it can; capture meets the first subflow."""
    mesh.service([VIP4], 80, Protocol.HTTP)
    with mesh.pod.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
    with client:
        client.settimeout(60)
        client.connect((VIP4, 80))
        accepted = mesh.accept(mesh.proxy4)
        assert mesh.record(accepted) == OriginalDestination(VIP4, 80)
        accepted.close()
    _until_no_flows(mesh)


def test_mptcp_is_not_enrolled(mesh: Mesh) -> None:
    """Nor is kTLS: the kernel takes no socket with an upper-layer protocol (sk_psock_init). It is counted."""
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=True)
    try:
        mesh.datapath.set_member(mesh.pod.cookie, PORT, ipv6=True, fast_path=True)
        before = mesh.counted("enrolled"), mesh.counted("enrol_failed")
        with mesh.pod.entered():
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
        with client:
            client.settimeout(60)
            client.connect((VIP4, 80))
            with mesh.accept(mesh.proxy4) as accepted:
                client.sendall(b"request")
                assert accepted.recv(10) == b"request"
                accepted.sendall(b"response")
                assert client.recv(10) == b"response"
        assert (mesh.counted("enrolled"), mesh.counted("enrol_failed")) == (before[0], before[1] + 1)
    finally:
        mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=False)
    _until_no_flows(mesh)


def _until_no_flows(mesh: Mesh) -> None:
    deadline = time.monotonic() + 60
    while mesh.datapath.flow_count():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("fast_path", "opted_in", "enrolled"), [(True, True, 1), (True, False, 0), (False, True, 0)]
)
def test_sockets_are_enrolled_where_node_and_workload_want_it(
    mesh: Mesh, fast_path: bool, opted_in: bool, enrolled: int
) -> None:
    mesh.service([VIP4], 80, Protocol.HTTP)
    mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=fast_path)
    try:
        mesh.datapath.set_member(mesh.pod.cookie, PORT, ipv6=True, fast_path=opted_in)
        before, failed = mesh.counted("enrolled"), mesh.counted("enrol_failed")
        client = mesh.connect(VIP4, 80)
        accepted = mesh.accept(mesh.proxy4)
        assert mesh.counted("enrolled") == before + enrolled
        assert mesh.counted("enrol_failed") == failed
        client.sendall(b"request")
        assert accepted.recv(10) == b"request"
        accepted.sendall(b"response")
        assert client.recv(10) == b"response"
    finally:
        mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=False)


def test_connections_of_tcp_routes_go_to_the_proxy_and_neither_end_is_enrolled(mesh: Mesh) -> None:
    shares = (WeightedCluster(name="elsewhere"),)
    mesh.service([VIP4], 80, Protocol.TCP, tcp_routes=(TcpRoute(name="r", clusters=shares),))
    server = mesh.listen("127.0.0.1")
    mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=True)
    try:
        mesh.datapath.set_member(mesh.pod.cookie, PORT, ipv6=True, fast_path=True)
        before, failed = mesh.counted("enrolled"), mesh.counted("enrol_failed")
        client = mesh.connect(VIP4, 80)
        accepted = mesh.accept(mesh.proxy4)
        assert client.getpeername() == (VIP4, 80)
        assert mesh.record(accepted) == OriginalDestination(VIP4, 80)
        upstream = mesh.client()
        upstream.setsockopt(socket.SOL_SOCKET, SO_MARK, mesh.datapath.plain_mark)
        upstream.connect(server.getsockname())
        mesh.accept(server)
        assert (mesh.counted("enrolled"), mesh.counted("enrol_failed")) == (before, failed)
    finally:
        mesh.datapath.configure(heartbeat_timeout=60.0, fast_path=False)
