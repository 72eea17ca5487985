"""Ends a lab: gracefully while its supervisor lives, and in any case without a trace."""

from __future__ import annotations

import contextlib
import time

from meshd.lab.command.client import LabError, ask
from meshd.lab.command.protocol import Done, Stop
from meshd.lab.command.sweep import sweep
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

_GRACE_SECONDS = 5.0


def shut_down(lab: Lab) -> list[str]:
    """Ask the supervisor to end its pods, wait a bounded time, sweep; what was removed.

    A pod's own grace period beyond that time is not waited for: this is a test bed, and ``down`` is to end.
    """
    with contextlib.suppress(LabError):  # nobody there, or too far gone to answer
        ask(lab, Stop(), Done, _GRACE_SECONDS)
        deadline = time.monotonic() + _GRACE_SECONDS
        group = cgroup.find_root() / lab.cgroup
        while cgroup.populated(group / "supervisor") and time.monotonic() < deadline:
            time.sleep(0.02)
    return sweep(lab)
