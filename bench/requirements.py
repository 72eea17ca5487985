"""What the measurements need of the machine."""

from __future__ import annotations

import os
import shutil

_PROGRAMS = ("ip", "nginx", "taskset", "wrk")


def missing() -> str:
    """What is not there, for people; empty: nothing."""
    if programs := [program for program in _PROGRAMS if shutil.which(program) is None]:
        return f"not installed: {', '.join(programs)}"
    if (os.cpu_count() or 1) < 2 or os.geteuid() != 0:
        return "needs root and two CPUs"
    return ""
