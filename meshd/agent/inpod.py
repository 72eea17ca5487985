"""In-pod listeners: sockets on a pod's own loopback, opened by entering its network namespace.

Their namespace is the caller's identity: a connection can only come from a process in that pod.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from meshd import netns

PREFERRED_PORT = 15001
_BACKLOG = 4096
_PORT_TRIES = 8
_SIOCGIFFLAGS = 0x8913  # linux/sockios.h
_IFF_UP = 0x1


class EnrolmentError(Exception):
    """A pod's namespace cannot be captured; the message says why and what to do."""


class InPod:
    """A pod's open namespace and its listeners. Owns their descriptors."""

    def __init__(self, netns_fd: int, cookie: int, listeners: Sequence[socket.socket]) -> None:
        self.netns_fd = netns_fd
        self.cookie = cookie
        self.listeners = tuple(listeners)

    @property
    def port(self) -> int:
        """The port that all listeners have."""
        return int(self.listeners[0].getsockname()[1])

    @property
    def ipv6(self) -> bool:
        """Whether there is a listener on ::1."""
        return any(sock.family == socket.AF_INET6 for sock in self.listeners)

    def fds(self) -> tuple[int, ...]:
        """As in ``AddWorkload``: the namespace, then the listeners, IPv4 first."""
        return (self.netns_fd, *(sock.fileno() for sock in self.listeners))

    def is_at(self, path: str) -> bool:
        """Whether a path opens this namespace."""
        try:
            found = Path(path).stat()
        except OSError:
            return False
        own = os.fstat(self.netns_fd)
        return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)

    def close(self) -> None:
        """Close everything."""
        for sock in self.listeners:
            sock.close()
        os.close(self.netns_fd)


def open_in_pod(path: str, home_fd: int) -> InPod:
    """Enter the namespace at ``path`` and listen on its loopback, then come back to ``home_fd``.

    Raises EnrolmentError.
    """
    try:
        netns_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EnrolmentError(f"network namespace {path} cannot be opened: {error.strerror}") from error
    try:
        with netns.entered(netns_fd, home_fd):
            if not _loopback_is_up():
                raise EnrolmentError(f"lo is down in {path}: bring it up, the in-pod listener needs it")
            return InPod(netns_fd, netns.cookie(), _listen())
    except OSError as error:
        os.close(netns_fd)
        raise EnrolmentError(f"cannot listen in network namespace {path}: {error.strerror}") from error
    except EnrolmentError:
        os.close(netns_fd)
        raise


def adopt(fds: Sequence[int], home_fd: int) -> InPod:
    """The same from descriptors that a worker gave back. Takes them over. Raises EnrolmentError."""
    netns_fd, *listener_fds = fds
    listeners = [socket.socket(fileno=fd) for fd in listener_fds]
    try:
        with netns.entered(netns_fd, home_fd):
            cookie = netns.cookie()
    except OSError as error:
        for sock in listeners:
            sock.close()
        os.close(netns_fd)
        raise EnrolmentError(f"a descriptor that a worker gave back is unusable: {error.strerror}") from error
    return InPod(netns_fd, cookie, listeners)


def _loopback_is_up() -> bool:
    request = struct.pack("16sH14x", b"lo", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
    return bool(struct.unpack_from("H", answer, 16)[0] & _IFF_UP)


def _listen() -> list[socket.socket]:
    """Listeners with one port for both families: the preferred one, or one that the kernel gives."""
    for port in (PREFERRED_PORT, *([0] * _PORT_TRIES)):
        with contextlib.ExitStack() as undo:
            try:
                ipv4 = undo.enter_context(_listener(socket.AF_INET, "127.0.0.1", port))
                ipv6 = _listener(socket.AF_INET6, "::1", int(ipv4.getsockname()[1]))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                undo.pop_all()
                return [ipv4]  # a pod without IPv6
            undo.pop_all()
            return [ipv4, ipv6]
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
