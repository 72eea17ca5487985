"""Which of the paths that open a network namespace this process can use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def openable(paths: Sequence[str]) -> str:
    """The first that is there as this process sees the file system. Raises ValueError."""
    for path in paths:
        if Path(path).exists():
            return path
    raise ValueError(f"none of {', '.join(paths)} is here: the agent needs the node's /run/netns or PIDs")
