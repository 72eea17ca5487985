"""What is mounted below a folder of a test's."""

from __future__ import annotations

import subprocess
from pathlib import Path


def unmount_below(folder: Path) -> None:
    """The innermost first. A folder with something mounted in it cannot be removed."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True):
        subprocess.run(("umount", "--lazy", point), capture_output=True, check=False)
