"""The lab's cgroup v2 subtree: found, made, killed, removed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path


class NoCgroup2Error(RuntimeError):
    """cgroup v2 is not mounted."""


def find_root(mounts: str = "/proc/mounts") -> Path:
    """Where cgroup v2 is mounted: alone, or beside v1 (hybrid). Raises NoCgroup2Error."""
    for line in Path(mounts).read_text().splitlines():
        _device, target, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(target.encode().decode("unicode_escape"))
    raise NoCgroup2Error(
        "cgroup v2 is not mounted: mount it, e.g. `mount -t cgroup2 none /sys/fs/cgroup/unified`"
    )


def processes(group: Path) -> list[int]:
    """Process ids of the group and of all groups below it."""
    found: list[int] = []
    for procs in group.rglob("cgroup.procs"):
        try:
            found += [int(pid) for pid in procs.read_text().split()]
        except OSError:  # removed while we looked
            continue
    return found


def populated(group: Path) -> bool:
    """Whether a process lives in the group or below it."""
    try:
        events = (group / "cgroup.events").read_text()
    except OSError:
        return False
    return "populated 1" in events


def kill(group: Path) -> None:
    """SIGKILL all in the group and below it at once, forks in progress included (kernel 5.14)."""
    try:
        (group / "cgroup.kill").write_text("1")
    except FileNotFoundError:
        return


def _remove_empty(group: Path) -> bool:
    """Remove the group and those below it. False: something still lives there."""
    children = sorted((p for p in group.rglob("*") if p.is_dir()), key=lambda p: len(p.parts), reverse=True)
    for child in [*children, group]:
        try:
            child.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


async def remove(group: Path, seconds: float = 5.0) -> bool:
    """Kill all in the group and remove it with those below it, waiting at most ``seconds`` for exits.

    False: something is still there.
    """
    deadline = time.monotonic() + seconds
    kill(group)
    while not _remove_empty(group):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
        kill(group)
    return True
