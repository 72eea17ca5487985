"""All that a lab may leave on a machine, looked up without the lab's own code."""

from __future__ import annotations

import re
from pathlib import Path


def of_lab(name: str) -> dict[str, list[str]]:
    """Kind to the things of that lab that are there."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    mark = re.compile(rf"meshd-{name}(-|/|\b)|/run/meshd/(labs/)?{name}(/|-node|\b)|/meshd/{name}-node")
    found = {
        "namespaces": [n for n in _names("/run/netns") if n.startswith(f"meshd-{name}-")],
        "cgroups": [n for n in _names(str(_cgroup_root())) if n == f"meshd-{name}"],
        "mounts": [line for line in mounts if mark.search(line)],
        "folders": [n for n in _names("/run/meshd") if n.startswith(f"{name}-")]
        + [n for n in _names("/run/meshd/labs") if n == name],
        "pins": [n for n in _names("/sys/fs/bpf/meshd") if n.startswith(f"{name}-")],
        "processes": [line for line in _processes() if mark.search(line)],
    }
    return {kind: things for kind, things in found.items() if things}


def pids(name: str, within: str = "") -> list[int]:
    """The processes of a lab, or of a cgroup in it."""
    groups = (_cgroup_root() / f"meshd-{name}" / within).rglob("cgroup.procs")
    return [int(pid) for group in groups for pid in group.read_text().split()]


def _cgroup_root() -> Path:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next(Path(target) for _, target, kind, *_ in mounts if kind == "cgroup2")


def _names(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except FileNotFoundError:
        return []


def _processes() -> list[str]:
    """Each process as its command line and its cgroups; zombies have neither."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if command:
            found.append(f"{folder.name} {command} {groups}")
    return found
