"""Named network namespaces, made and removed as ``ip netns`` does, and found by it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from meshd import netns
from meshd.lab.system import syscalls


def create(path: Path) -> None:
    """Make a new network namespace and bind it to ``path``. Raises OSError (FileExistsError).

    The calling thread leaves its own network namespace for the time of the call. Unlike ``ip netns`` this
    does not make the folder a shared mount: unlinking a mount point detaches it in every mount namespace
    (kernel 3.18).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    home = netns.open_own()
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            syscalls.mount("/proc/thread-self/ns/net", str(path), syscalls.MS_BIND)
        finally:
            netns.enter(home)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(home)


def remove(path: Path) -> None:
    """Unname a network namespace; it ends with its last process or socket. Nothing there: nothing done."""
    with contextlib.suppress(OSError):  # EINVAL: the file is there, but its mount is already gone
        syscalls.umount(str(path))
    path.unlink(missing_ok=True)


def set_sysctls(path: Path, values: dict[str, str]) -> None:
    """Write net.* sysctls (``ipv4/ip_forward``) inside a network namespace. Raises OSError.

    /proc/sys/net shows the network namespace of the reading thread.
    """
    home = netns.open_own()
    inside = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netns.entered(inside, home):
            for name, value in values.items():
                Path("/proc/sys/net", name).write_text(value)
    finally:
        os.close(inside)
        os.close(home)
