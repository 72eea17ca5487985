"""Where cgroup v2 is."""

from __future__ import annotations

import re
from pathlib import Path

from meshd.datapath.errors import DatapathError

_MOUNTS = Path("/proc/self/mounts")


def mount_point(mounts: str) -> Path | None:
    """The first cgroup2 mount of a mount table (the format of proc_mounts(5)); None: there is none."""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
    return None


def root() -> Path:
    """The root of the cgroup v2 tree, also where it is mounted beside v1. Raises DatapathError."""
    found = mount_point(_MOUNTS.read_text())
    if found is None:
        raise DatapathError("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
    return found


def cgroup_id(folder: Path) -> int:
    """The id by which the kernel names a cgroup v2 folder. Raises DatapathError."""
    try:
        number = folder.stat().st_ino
    except OSError as error:
        raise DatapathError(f"cgroup {folder}: {error.strerror}; give one with --cgroup") from error
    if not (folder / "cgroup.procs").exists():
        raise DatapathError(f"{folder} is not a cgroup v2 folder; give one with --cgroup")
    return number
