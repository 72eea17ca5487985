"""In-pod listeners in real network namespaces."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd import netns
from meshd.agent.inpod import PREFERRED_PORT, EnrolmentError, adopt, open_in_pod


@pytest.fixture
def pod() -> Iterator[Path]:
    """A network namespace with lo up, and nothing else."""
    name = f"mt-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def home() -> Iterator[int]:
    fd = netns.open_own()
    yield fd
    os.close(fd)


def _own_cookie() -> int:
    return netns.cookie()


def test_the_listeners_are_in_the_pod_and_we_are_not(pod: Path, home: int) -> None:
    before = _own_cookie()
    opened = open_in_pod(str(pod), home)
    assert _own_cookie() == before != opened.cookie
    assert (opened.port, opened.ipv6) == (PREFERRED_PORT, True)
    with netns.entered(opened.netns_fd, home):
        assert netns.cookie() == opened.cookie
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, opened.port), 1).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", opened.port), 1)
    opened.close()


def test_a_taken_port_is_evaded_with_one_port_for_both_families(pod: Path, home: int) -> None:
    first = open_in_pod(str(pod), home)
    second = open_in_pod(str(pod), home)
    assert second.port not in (0, first.port)
    assert {sock.getsockname()[1] for sock in second.listeners} == {second.port}
    first.close()
    second.close()


def test_a_pod_without_ipv6_gets_one_listener(pod: Path, home: int) -> None:
    disable = ["ip", "netns", "exec", pod.name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]
    subprocess.run(disable, check=True)
    opened = open_in_pod(str(pod), home)
    assert not opened.ipv6
    opened.close()


def test_adopted_descriptors_are_the_same_listeners(pod: Path, home: int) -> None:
    opened = open_in_pod(str(pod), home)
    again = adopt([os.dup(fd) for fd in opened.fds()], home)
    assert (again.cookie, again.port, again.ipv6) == (opened.cookie, opened.port, opened.ipv6)
    opened.close()
    with netns.entered(again.netns_fd, home):
        socket.create_connection(("127.0.0.1", again.port), 1).close()
    again.close()


def test_what_cannot_be_enrolled_is_said(pod: Path, home: int) -> None:
    with pytest.raises(EnrolmentError, match="cannot be opened"):
        open_in_pod("/run/netns/there-is-none-of-this-name", home)
    subprocess.run(["ip", "-n", pod.name, "link", "set", "lo", "down"], check=True)
    with pytest.raises(EnrolmentError, match="lo is down"):
        open_in_pod(str(pod), home)


def test_no_descriptor_is_leaked(pod: Path, home: int) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = count()
    for _ in range(5):
        open_in_pod(str(pod), home).close()
        with pytest.raises(EnrolmentError):
            open_in_pod("/run/netns/there-is-none-of-this-name", home)
    assert count() == before
