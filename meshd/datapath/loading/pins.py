"""Where an instance's maps, programs and links are pinned.

Below ``PIN_ROOT/<instance>``: ``maps/<map>-<layout digest>``, ``programs/<digest>/<program>`` and
``links/<program>``.
A pin's name says what it is, so that an agent can judge what an earlier one left.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from meshd.datapath.errors import DatapathError
from meshd.datapath.loading.layout import Layout
from meshd.paths import BPF_FS, PIN_ROOT

_BPF_FS_MAGIC = 0xCAFE4A11
_STATFS_BYTES = 120
_libc = ctypes.CDLL(None, use_errno=True)


class Pins:
    """The pin folder of one instance."""

    def __init__(self, instance: str, root: Path = PIN_ROOT) -> None:
        self.folder = root / instance
        self.maps = self.folder / "maps"
        self.programs = self.folder / "programs"
        self.links = self.folder / "links"

    def map(self, layout: Layout, name: str) -> Path:
        """Where a map of that layout is pinned. Raises KeyError."""
        return self.maps / f"{name}-{layout.map_digest(name)}"

    def program(self, digest: str, name: str) -> Path:
        """Where a program of that version is pinned."""
        return self.programs / digest / name

    def link(self, name: str) -> Path:
        """Where a program's attachment is pinned."""
        return self.links / name

    def make(self) -> None:
        """Make the folders, and mount the BPF file system if it is not. Raises DatapathError."""
        mount_bpf_fs()
        try:
            for folder in (self.maps, self.programs, self.links):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DatapathError(f"{error.filename}: cannot make the pin folder: {error.strerror}") from error


def is_bpf_fs(path: Path) -> bool:
    """Whether a BPF file system is mounted there (statfs(2))."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return False
    return int.from_bytes(buffer.raw[:8], "little") == _BPF_FS_MAGIC


def mount_bpf_fs(path: Path = BPF_FS) -> None:
    """Mount the BPF file system where it is not. Raises DatapathError."""
    if is_bpf_fs(path):
        return
    if _libc.mount(b"bpffs", os.fsencode(path), b"bpf", 0, b"mode=0700") != 0:
        reason = os.strerror(ctypes.get_errno())
        raise DatapathError(
            f"{path}: cannot mount the BPF file system: {reason}; "
            f"run as root in the host's mount namespace, or: mount -t bpf bpffs {path}"
        )
