"""The Linux calls that Python 3.11 does not offer: unshare, mount and umount."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)


def _check(result: int, what: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), what)


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces (CLONE_NEW*). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, flags: int) -> None:
    """mount(2) without a file system type: bind mounts and propagation changes. Raises OSError."""
    _check(_libc.mount(source.encode(), target.encode(), None, flags, None), target)


def umount(target: str) -> None:
    """Detach a mount now, whoever still uses it. Raises OSError."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), target)
