"""Network namespaces for tests: without a name, so that nothing is left when the test process ends."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from meshd import netns

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace. One of our own lives as long as its fd is open."""

    def __init__(self, fd: int) -> None:
        """``fd``: of the namespace; taken over."""
        self.fd = fd
        self._home = netns.open_own()
        with self.entered():
            self.cookie = netns.cookie()

    @property
    def path(self) -> str:
        """A path that opens the namespace, while this object is open."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run the body in the namespace, on this thread."""
        with netns.entered(self.fd, self._home):
            yield

    def ip(self, *arguments: str) -> None:
        """``ip ARGUMENTS`` inside the namespace."""
        with self.entered():
            subprocess.run(("ip", *arguments), check=True, capture_output=True)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._home)


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace for the body, with its loopback up."""
    made = Namespace(_unshared())
    try:
        with made.entered():
            _up("lo")
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Namespace]:
    """Somebody else's namespace, for the body."""
    found = Namespace(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    try:
        yield found
    finally:
        found.close()


def join(
    one: Namespace, one_addresses: tuple[str, ...], other: Namespace, other_addresses: tuple[str, ...]
) -> None:
    """A veth pair, eth0 in both namespaces. Addresses with prefix length."""
    one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other.path)
    for each, addresses in ((one, one_addresses), (other, other_addresses)):
        for address in addresses:
            extra = ("nodad",) if ":" in address else ()
            each.ip("address", "add", address, "dev", "eth0", *extra)
        each.ip("link", "set", "eth0", "up")


def _unshared() -> int:
    made: list[int] = []
    failed: list[int] = []

    def make() -> None:
        if _libc.unshare(netns.CLONE_NEWNET) == 0:
            made.append(netns.open_own())
        else:
            failed.append(ctypes.get_errno())

    # A thread of its own: the caller's stays where it is.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if failed:
        raise OSError(failed[0], os.strerror(failed[0]))
    return made[0]


def _up(device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", device.encode(), 0)
        _, flags = struct.unpack("16sH14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", device.encode(), flags | _IFF_UP))
