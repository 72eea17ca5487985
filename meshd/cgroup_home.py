"""Cgroups in which a node's workers outlive the container, or the unit, that their agent runs in.

Whoever ends a container without a PID namespace of its own ends what is in its cgroup (runc), as systemd does
with a unit's. So workers live in a cgroup ``meshd/INSTANCE`` at the root, in the hierarchy of version 2 and
in each of version 1 that confines the agent, with the limits that the agent's own cgroups have.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CLONE_NEWCGROUP = 0x02000000
_TOP = "meshd"
# In the order of writing: version 1 lets nobody into a cgroup without CPUs and memory nodes.
_LIMITS = (
    "cpuset.cpus", "cpuset.mems",
    "memory.max", "memory.high", "cpu.max", "cpu.weight",
    "memory.limit_in_bytes", "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us",
    "pids.max",
)  # fmt: skip
_CONTROLLERS = ("cpu", "memory", "pids")
"""Of version 2, that have these limits."""
_GONE_SECONDS = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


class Hierarchy(NamedTuple):
    """One that this process is confined by."""

    name: str
    """Its controllers, as /proc/self/cgroup has them; empty: version 2."""
    path: str
    """Of our cgroup in it."""


class Mount(NamedTuple):
    """A mount of a hierarchy."""

    names: frozenset[str]
    """Its controllers, among other options; empty: version 2."""
    root: str
    """The cgroup that is seen at ``place``."""
    place: Path

    def shows(self, hierarchy: Hierarchy) -> bool:
        """Whether it is one of that hierarchy."""
        wanted = frozenset(filter(None, hierarchy.name.split(",")))
        return bool(wanted) == bool(self.names) and wanted <= self.names


def hierarchies(text: str) -> list[Hierarchy]:
    """Those of /proc/self/cgroup (cgroups(7)), version 2's first."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return sorted(Hierarchy(name, path) for _, name, path in lines)


def mounts(text: str) -> list[Mount]:
    """The mounts of cgroups in /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, place = (_unescaped(field) for field in before.split(" ")[3:5])
            names = frozenset(options.split(",") if kind == "cgroup" else ())
            found.append(Mount(names, root, Path(place)))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def prepare(root: Path, instance: str) -> list[Path]:
    """Make the cgroups of an instance's workers, limited as our own are. ``root``: version 2's, writable.

    Raises OSError, whose message says what to do.
    """
    if (root / "cgroup.events").exists():
        raise OSError(errno.EINVAL, "is not the root of cgroup v2, where workers are kept", str(root))
    known = mounts(Path("/proc/self/mountinfo").read_text())
    made = []
    for hierarchy in hierarchies(Path("/proc/self/cgroup").read_text()):
        if hierarchy.name and hierarchy.path == "/":
            continue  # whoever ends us does not look there
        top = root if not hierarchy.name else _top(hierarchy, known)
        home = top / _TOP / instance
        home.mkdir(parents=True, exist_ok=True)
        _copy_limits(_own(hierarchy, known), home, top)
        made.append(home)
    return made


def join(home: Path) -> None:
    """Move this process into a cgroup. Raises OSError."""
    procs = home / "cgroup.procs"
    try:
        procs.write_text("0")
    except FileNotFoundError:
        if not procs.exists():
            raise
        # Where namespaces are delegation boundaries (cgroup2's option nsdelegate), nobody leaves his own.
        enter_namespace(Path("/proc/1/ns/cgroup"))
        procs.write_text("0")


def enter_namespace(path: Path) -> None:
    """Move the calling thread into a cgroup namespace. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, CLONE_NEWCGROUP) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    finally:
        os.close(fd)


def remove(instance: str) -> Iterator[str]:
    """Remove an instance's cgroups, whose processes have been ended. Says what. Raises OSError."""
    for mount in mounts(Path("/proc/self/mountinfo").read_text()):
        home = mount.place / _TOP / instance
        if home.is_dir():
            _remove(home)
            yield f"cgroup removed ({home})"
            with contextlib.suppress(OSError):  # others' are there
                home.parent.rmdir()


def _remove(home: Path) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while True:
        try:
            home.rmdir()
        except FileNotFoundError:
            return  # by another mount
        except OSError as error:
            # A process that has ended is in its cgroup until it has been waited for.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _top(hierarchy: Hierarchy, known: list[Mount]) -> Path:
    for mount in known:
        if mount.shows(hierarchy) and mount.root == "/" and os.access(mount.place, os.W_OK):
            return mount.place
    raise OSError(
        errno.ENOENT, "is a hierarchy of cgroup v1 that is not mounted here, or read-only", hierarchy.name
    )


def _own(hierarchy: Hierarchy, known: list[Mount]) -> Path | None:
    """Where our own cgroup is seen, if anywhere."""
    for mount in known:
        below = os.path.relpath(hierarchy.path, mount.root)
        if mount.shows(hierarchy) and not below.startswith("..") and (mount.place / below).is_dir():
            return mount.place / below
    return None


def _copy_limits(own: Path | None, home: Path, top: Path) -> None:
    """Raises OSError."""
    switch = home.parent / "cgroup.subtree_control"
    if switch.exists():
        there = (home.parent / "cgroup.controllers").read_text().split()
        for controller in _CONTROLLERS:
            if controller in there:
                switch.write_text(f"+{controller}")
    for name in _LIMITS:
        if name.startswith("cpuset.") and (home / name).exists():
            # In version 1 they are empty in a new cgroup, and nobody may go where they are.
            for folder in (home.parent, home):
                (folder / name).write_text((top / name).read_text())
        if own is not None and (own / name).exists() and (home / name).exists():
            (home / name).write_text((own / name).read_text())
