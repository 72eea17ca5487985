"""Which tests stay together, and begin first, where the suite runs in several processes (``make test``).

And no test of Hypothesis' fails because the machine is slow.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# So does Hypothesis' profile ``ci``, which ``make test`` takes: it tries the same examples each time, too.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

ROOT = Path(__file__).parent
_TOGETHER = (
    ("conformance/*",),
    ("differential/*",),
    ("proxy/http1/*",),
    ("lab/test_command_line.py", "lab/test_traffic.py"),
    ("e2e/test_capture.py", "e2e/test_clients_*", "e2e/test_health_policy.py"),
    ("e2e/test_live_config.py", "e2e/test_rollout.py", "e2e/test_seeing.py"),
)
"""Files that share what is dear to make, a session's fixture, and would make it again in another process.

Elsewhere the tests of a file do, at most.
"""
_FIRST = ("image", "conformance", "lab", "e2e", "bench", "control", "proxy", "differential", "datapath")
"""The folders that take longest: what is left at the end, when a process has no work, is short."""


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Each process takes the tests of one file, or of several that share something, and then the next."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePath(nodeid.partition("::")[0])
        return next((files[0] for files in _TOGETHER if any(map(file.match, files))), file.as_posix())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Scheduling:
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.path.relative_to(ROOT).parts[0]
    return _FIRST.index(folder) if folder in _FIRST else len(_FIRST)
