"""A cgroup of a test's own, with the test process in it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from meshd.datapath.kernel import cgroup


@contextlib.contextmanager
def own_cgroup() -> Iterator[Path]:
    """Make a cgroup v2 folder and move this process there for the body: sockets belong to the cgroup in which
    they are made."""
    root = cgroup.root()
    before = next(
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.startswith("0:")
    )
    folder = root / f"mt-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield folder
        finally:
            (root / before.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
    finally:
        with contextlib.suppress(FileNotFoundError):
            (folder / "cgroup.kill").write_text("1")
        folder.rmdir()
