"""Removes every trace of a lab by its names alone, whatever became of its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from meshd.lab.names import LABS_DIR, NETNS_DIR, Lab
from meshd.lab.system import cgroup, netspace
from meshd.paths import PIN_ROOT, RUN_ROOT


def sweep(lab: Lab) -> list[str]:
    """Kill and remove all that has the lab's names; what was removed, in words. Raises OSError."""
    removed: list[str] = []
    root = cgroup.find_root()
    group = root / lab.cgroup
    if group.exists():
        count = len(cgroup.processes(group))
        if count:
            removed.append(f"{count} processes")
        if not asyncio.run(cgroup.remove(group)):
            raise OSError(f"{group}: processes of the lab do not end: {cgroup.processes(group)}")
        removed.append(f"cgroup {group}")
    # Pins go before the namespaces: a pinned link holds on to nothing, but what it does should end first.
    for instance in _children(PIN_ROOT):
        if lab.owns_instance(instance.name):
            shutil.rmtree(instance)
            removed.append(f"pins {instance}")
    for path in _children(NETNS_DIR):
        if path.name.startswith(lab.netns_prefix):
            netspace.remove(path)
            removed.append(f"network namespace {path.name}")
    for instance in _children(RUN_ROOT):
        if lab.owns_instance(instance.name):
            shutil.rmtree(instance)
            removed.append(f"folder {instance}")
    if lab.state_dir.exists():
        shutil.rmtree(lab.state_dir)
        removed.append(f"folder {lab.state_dir}")
    for folder in (LABS_DIR, PIN_ROOT, RUN_ROOT):
        with contextlib.suppress(OSError):  # not empty: another lab's, or the node's own agent's
            folder.rmdir()
    return removed


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
