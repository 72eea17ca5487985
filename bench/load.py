"""One run of wrk, with what else is needed to believe it: errors, the proxy's CPU time, stolen time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.targets import Target

_FOLDER = Path(__file__).parent
_MARK = "REPORT "
_TICKS = os.sysconf("SC_CLK_TCK")


class LoadError(Exception):
    """A run that says nothing: wrk failed, or requests did."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How wrk calls."""

    name: str
    connections: int
    distinct: bool = False
    """Each request's head differs from those before it, as those of real callers do."""
    path: str = ""
    """Of the requests, without its first slash."""

    @property
    def script(self) -> Path:
        """What wrk runs."""
        return _FOLDER / ("wrk_distinct.lua" if self.distinct else "wrk_report.lua")


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of wrk showed."""

    requests_per_second: float
    p50: float
    """Microseconds."""
    p99: float
    """Microseconds."""
    proxy_cpu: float
    """Microseconds of CPU time of the proxy's processes for each request; 0 without a proxy."""
    steal: float
    """Percent of all CPUs' time that the hypervisor took."""
    carried: float = 0.0
    """Percent of the requests that the kernel carried."""


def _cpu_seconds(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        # The command's name, in parentheses, may hold spaces; utime and stime are the 14th and 15th field.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def _machine_ticks() -> tuple[int, int]:
    """All and stolen ticks since boot."""
    fields = [int(f) for f in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[:8]), fields[7]


def _family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found


def pin(pid: int, cpu: int) -> None:
    """Keep a process, its threads and its descendants on one CPU. Raises OSError."""
    for process in _family(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(task.name), {cpu})


def cpu_percent(pids: Sequence[int], seconds: float) -> float:
    """Percent of one CPU that processes use from now on. Raises OSError."""
    before, began = _cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_seconds(pids) - before) / (time.monotonic() - began)


def resident_bytes(pid: int) -> int:
    """A process's resident size. Raises OSError."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(target: Target, *, scenario: Scenario, seconds: int, cpu: int) -> Run:
    """Run wrk with one thread on one CPU, in the client pod. Raises LoadError."""
    url = target.url + scenario.path
    command = [
        "taskset", "--cpu-list", str(cpu), "wrk", "--threads", "1",
        "--connections", str(scenario.connections), "--duration", f"{seconds}s",
        "--script", str(scenario.script), url,
    ]  # fmt: skip
    carried_before = target.carried()
    cpu_before, ticks_before = _cpu_seconds(target.proxies), _machine_ticks()
    try:
        output = target.network.run(target.network.client, command, seconds + 30)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise LoadError(f"wrk on {url}: {error}") from None
    cpu_after, ticks_after = _cpu_seconds(target.proxies), _machine_ticks()
    line = next((x for x in output.splitlines() if x.startswith(_MARK)), None)
    if line is None:
        raise LoadError(f"wrk on {url} wrote no report:\n{output}")
    report = json.loads(line.removeprefix(_MARK))
    if report["errors"] or not report["requests"]:
        raise LoadError(f"wrk on {url}: {report['errors']} of {report['requests']} requests failed\n{output}")
    all_ticks = ticks_after[0] - ticks_before[0]
    return Run(
        requests_per_second=report["requests"] / report["microseconds"] * 1e6,
        p50=report["p50"],
        p99=report["p99"],
        proxy_cpu=(cpu_after - cpu_before) * 1e6 / report["requests"],
        steal=100 * (ticks_after[1] - ticks_before[1]) / max(1, all_ticks),
        # wrk does not count what is in flight when it ends.
        carried=min(100.0, 100 * (target.carried() - carried_before) / report["requests"]),
    )
