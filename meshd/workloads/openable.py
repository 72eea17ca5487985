"""Which of the paths that open a network namespace this process can use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def openable(paths: Sequence[str]) -> str:
    """The first that is a namespace as this process sees the file system. Raises ValueError.

    In a container the files of the node's /run/netns may be there without what is mounted on them.
    """
    namespaces = Path("/proc/self/ns/net").stat().st_dev
    for path in paths:
        try:
            if Path(path).stat().st_dev == namespaces:
                return path
        except OSError:
            continue
    raise ValueError(f"none of {', '.join(paths)} is a namespace here: the agent needs the node's PIDs")
