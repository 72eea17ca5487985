"""Network namespaces: enter one for the time of a call, and read the cookie by which the kernel knows it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
SO_NETNS_COOKIE = 71  # linux/include/uapi/asm-generic/socket.h, kernel 5.14

_libc = ctypes.CDLL(None, use_errno=True)
_setns = _libc.setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)
_unshare = _libc.unshare
_unshare.argtypes = (ctypes.c_int,)


def enter(netns_fd: int) -> None:
    """Move the calling thread into a network namespace. Raises OSError."""
    if _setns(netns_fd, CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


def leave() -> None:
    """Move the calling thread into a new network namespace, which ends with it. Raises OSError."""
    if _unshare(CLONE_NEWNET) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))


@contextlib.contextmanager
def entered(netns_fd: int, home_fd: int) -> Iterator[None]:
    """Run the body inside a network namespace; the thread is back in ``home_fd`` afterwards.

    The body must not await: the namespace belongs to the thread, not to the task. Raises OSError.
    """
    enter(netns_fd)
    try:
        yield
    finally:
        enter(home_fd)


def open_own() -> int:
    """A new fd of the calling thread's network namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def cookie() -> int:
    """The cookie of the calling thread's network namespace (SO_NETNS_COOKIE, kernel 5.14)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), "little")
