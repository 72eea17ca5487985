"""Where a node's agent keeps its run-time state."""

from __future__ import annotations

from pathlib import Path

RUN_ROOT = Path("/run/meshd")


def run_dir(instance: str) -> Path:
    """The directory of one agent: its sockets, pid files and kept config."""
    return RUN_ROOT / instance
