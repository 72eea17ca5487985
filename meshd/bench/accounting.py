"""Who used how much CPU time and memory: cgroups, /proc/stat, the kernel's softirq threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshd.bench.results import Party

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STEAL = 7
"""The column of /proc/stat's cpu line; 8 and 9, guests', are in 0 and 1 too (proc(5))."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment."""

    micros: Mapping[Party, float]
    """CPU time since the groups were made."""
    all_ticks: int
    """Of all CPUs since boot, idle and stolen ones included."""
    stolen_ticks: int

    def cpu_since(self, before: Reading) -> dict[Party, float]:
        """Microseconds of CPU time that each party used."""
        return {party: now - before.micros[party] for party, now in self.micros.items()}

    def steal_percent_since(self, before: Reading) -> float:
        """Of all CPUs' time, what the hypervisor gave to others."""
        return 100 * (self.stolen_ticks - before.stolen_ticks) / max(1, self.all_ticks - before.all_ticks)


def softirq_threads() -> list[int]:
    """The process ids of ksoftirqd/0, ksoftirqd/1, …

    Packets that are handled within a process's own time slice (on veth: most) are in that process's time,
    unless the kernel accounts interrupts apart, which Debian's does not; the rest is these threads'.
    """
    found = []
    for folder in _PROC.glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().startswith("ksoftirqd/"):
                found.append(int(folder.name))
        except OSError:  # it has ended since
            continue
    return found


def read(groups: Mapping[Party, Sequence[Path]], softirq: Iterable[int]) -> Reading:
    """Read all counters. Raises OSError."""
    micros: dict[Party, float] = {party: sum(map(_group_micros, found)) for party, found in groups.items()}
    micros["softirq"] = sum(map(_process_micros, softirq))
    line = (_PROC / "stat").read_text().partition("\n")[0]
    ticks = [int(field) for field in line.split()[1 : _STEAL + 2]]
    return Reading(micros, sum(ticks), ticks[_STEAL])


def _group_micros(folder: Path) -> int:
    """``usage_usec`` of cpu.stat: of all processes in the cgroup and below it (cgroup-v2.rst)."""
    for line in (folder / "cpu.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value)
    raise OSError(f"{folder}/cpu.stat has no usage_usec")


def _process_micros(pid: int) -> float:
    # The command's name, in parentheses, may hold spaces; utime and stime are the 14th and 15th field.
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / _TICKS


def resident_mb(pids: Iterable[int]) -> float:
    """Resident memory of processes, in 10^6 bytes; what several share counts for each."""
    total = 0
    for pid in pids:
        try:
            total += int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE
        except FileNotFoundError:  # it has ended
            continue
    return total / 1e6


def proportional_mb(pids: Iterable[int]) -> float:
    """The same with what several processes share divided among them (PSS): 100 Envoys have one binary."""
    total = 0
    for pid in pids:
        try:
            lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        except FileNotFoundError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total / 1e6


def pin(pids: Iterable[int], cpu: int) -> None:
    """Keep processes and their threads on one CPU; what they start later too. Raises OSError."""
    for pid in pids:
        try:
            for task in (_PROC / str(pid) / "task").iterdir():
                os.sched_setaffinity(int(task.name), {cpu})
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
