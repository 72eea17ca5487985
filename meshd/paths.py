"""Where the node keeps run-time state, in one place for all parts."""

from __future__ import annotations

from pathlib import Path

RUN_ROOT = Path("/run/meshd")
CACHE_DIR = Path("/var/cache/meshd")
"""What saves time when it is there: the compiled programs, the self-test's result."""
BPF_FS = Path("/sys/fs/bpf")
PIN_ROOT = BPF_FS / "meshd"


def run_dir(instance: str) -> Path:
    """The directory of one agent: its sockets, pid files and kept config."""
    return RUN_ROOT / instance
