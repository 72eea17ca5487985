"""Cgroups for the pods of a node: an agent covers the sockets that are made in its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from meshd.datapath import cgroup

_SECONDS = 5.0


def _own() -> Path:
    line = next(x for x in Path("/proc/self/cgroup").read_text().splitlines() if x.startswith("0:"))
    return cgroup.root() / line.split(":", 2)[2].lstrip("/")


@contextlib.contextmanager
def entered(folder: Path) -> Iterator[None]:
    """Run the body, and start what it starts, in a cgroup; this process is back in its own afterwards.

    Raises OSError.
    """
    before = _own()
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def made(name: str) -> Iterator[Path]:
    """A cgroup for the body; what still runs in it is killed in the end. Raises OSError."""
    folder = cgroup.root() / name
    folder.mkdir()
    try:
        yield folder
    finally:
        (folder / "cgroup.kill").write_text("1")
        _remove(folder)


def _remove(folder: Path) -> None:
    """Processes that were killed stay in it until they are gone."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
