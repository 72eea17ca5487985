"""The sockmap under a node's Envoy: which connections it takes, and when it changes over from TCP.

With a lab around it: tests/lab/test_node_proxy.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.datapath import cleanup
from meshd.datapath.kernel import bpf
from meshd.datapath.loading.pins import Pins
from tests.support.cgroup import own_cgroup
from tests.support.lab import until
from tests.support.netns import Namespace, namespace

_RANGES = (
    "--pods-v4", "10.244.1.0/24", "--pods-v6", "fd00:10:244:1::/64",
    "--services-v4", "10.96.0.0/16", "--services-v6", "fd00:10:96::/112",
)  # fmt: skip
_POD = {4: "10.244.1.5", 6: "fd00:10:244:1::5"}
_OTHER_POD = {4: "10.244.1.6", 6: "fd00:10:244:1::6"}
_NODE = {4: "10.244.1.1", 6: "fd00:10:244:1::1"}
_SERVICE = {4: "10.96.3.4", 6: "fd00:10:96::34"}
_FAR_POD = {4: "10.244.2.5", 6: "fd00:10:244:2::5"}
_PIECE = 10_000
"""Bytes; several fit into the first window of a connection."""


@pytest.fixture(scope="module")
def network() -> Iterator[Namespace]:
    """All addresses on one loopback: which is whose, the programs tell by the numbers."""
    with namespace() as made:
        for family, length in ((4, 32), (6, 128)):
            for group in (_POD, _OTHER_POD, _NODE, _SERVICE, _FAR_POD):
                made.ip("addr", "add", f"{group[family]}/{length}", "dev", "lo")
        yield made


@pytest.fixture(scope="module")
def instance() -> Iterator[str]:
    """The programs in force for this process."""
    name = f"mt{secrets.token_hex(4)}"
    with own_cgroup() as group:
        try:
            _load(name, group)
            yield name
        finally:
            list(cleanup.remove(name))


def _load(name: str, group: Path) -> None:
    command = [sys.executable, "-m", "meshd.datapath.loading.legs_load", "--instance", name]
    command += ["--cgroup", str(group), *_RANGES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _connection(
    network: Namespace, client: str, server: str, *, late: bool = False
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends. ``late``: the server's end is made only when the client's first bytes come."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    with network.entered():
        listener, calling = socket.socket(family), socket.socket(family)
    with listener, calling:
        listener.bind((server, 0))
        if late:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
        listener.listen()
        for end in (listener, calling):
            end.settimeout(60)
        calling.bind((client, 0))
        calling.connect(listener.getsockname())
        if late:
            calling.sendall(b"a" * _PIECE)
        accepted, _ = listener.accept()
        accepted.settimeout(60)
        with accepted:
            yield calling, accepted


def _crossed(network: Namespace) -> int:
    """Bytes that have gone over the wire."""
    with network.entered():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    return int(next(line for line in lines if "lo:" in line).split(":")[1].split()[0])


def _by_tcp(network: Namespace, sender: socket.socket, byte: bytes) -> bool:
    """Send a piece; whether it went over the wire."""
    before = _crossed(network)
    sender.sendall(byte * _PIECE)
    return _crossed(network) - before >= _PIECE


def _read(end: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (piece := end.recv(count - len(found))):
        found += piece
    return bytes(found)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("client", "server", "taken"),
    [
        (_POD, _SERVICE, True),
        (_NODE, _POD, True),
        (_POD, _OTHER_POD, False),
        (_FAR_POD, _SERVICE, False),
        (_FAR_POD, _POD, False),
    ],
    ids=["pod-service", "node-pod", "pod-pod", "far-service", "far-pod"],
)
def test_only_what_is_between_a_pod_and_its_node_is_taken(
    network: Namespace,
    instance: str,
    family: int,
    client: dict[int, str],
    server: dict[int, str],
    taken: bool,
) -> None:
    with _connection(network, client[family], server[family]) as (calling, accepted):
        for sender, reader in ((calling, accepted), (accepted, calling)):
            assert _by_tcp(network, sender, b"x") is not taken, instance
            assert _read(reader, _PIECE) == b"x" * _PIECE
        calling.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_redirected_never_overtakes_what_went_by_tcp(
    network: Namespace, instance: str, family: int
) -> None:
    with _connection(network, _POD[family], _SERVICE[family], late=True) as (calling, accepted):
        assert _by_tcp(network, calling, b"b"), instance  # nobody has read the first piece
        assert _read(accepted, 2 * _PIECE) == b"a" * _PIECE + b"b" * _PIECE
        assert _by_tcp(network, calling, b"c")  # that it was read is not known yet
        assert not _by_tcp(network, accepted, b"A")
        assert _by_tcp(network, calling, b"d")  # the third was not read when the answer was sent
        assert _read(accepted, 2 * _PIECE) == b"c" * _PIECE + b"d" * _PIECE
        accepted.sendall(b"B")
        assert not _by_tcp(network, calling, b"e")
        assert _read(accepted, _PIECE) == b"e" * _PIECE
        assert _read(calling, _PIECE + 1) == b"A" * _PIECE + b"B"


def test_cleanup_leaves_nothing_in_the_kernel() -> None:
    name = f"mt{secrets.token_hex(4)}"
    with own_cgroup() as group:
        try:
            _load(name, group)
            fd = bpf.open_pinned(str(Pins(name).maps / "sockets"))
            number = bpf.map_info(fd).id
            os.close(fd)
        finally:
            said = list(cleanup.remove(name))
    assert any("leg_ops detached" in line for line in said)
    assert not Pins(name).folder.exists()
    until(lambda: number not in {found.id for found in bpf.all_maps()})
