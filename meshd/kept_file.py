"""Files that outlive a process: whoever reads one finds the old content or the new, never half of it."""

from __future__ import annotations

from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Replace a file's content in one step. Raises OSError."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)
