"""The layout of the programs in force, kept beside an instance's other run-time state."""

from __future__ import annotations

from pathlib import Path

import msgspec

from meshd import kept_file
from meshd.datapath.loading.layout import Layout
from meshd.paths import run_dir


def layout_path(instance: str) -> Path:
    """Where an instance's layout is kept."""
    return run_dir(instance) / "layout.json"


def read_layout(instance: str) -> Layout | None:
    """None: there is none, or it is of another form than this version reads. Raises OSError."""
    try:
        return Layout.from_json(layout_path(instance).read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_layout(instance: str, layout: Layout) -> None:
    """Replace the kept layout in one step. Raises OSError."""
    kept_file.replace(layout_path(instance), layout.to_json().encode())
