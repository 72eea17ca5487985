"""What a process costs."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(pid: int) -> int:
    """The resident size of a process (VmRSS); 0 when there is none of that pid."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
