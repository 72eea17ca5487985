"""Interleaved rounds of runs, each process on its CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bench import load
from bench.load import Run, Scenario
from bench.targets import Target


@dataclass(frozen=True, slots=True)
class Placement:
    """Who runs on which CPU."""

    load: int
    server: int
    proxies: tuple[int, ...]
    """Of the proxies of a way from the client's side on; the last is for all that follow too."""


@dataclass(frozen=True, slots=True)
class Part:
    """Ways that are compared in one scenario."""

    scenario: Scenario
    ways: Sequence[Target]
    servers: tuple[int, ...]
    """The pids of the servers that the ways lead to."""
    placement: Placement

    def pin(self) -> None:
        """Put all processes but wrk in their place. Raises OSError."""
        for pid in self.servers:
            load.pin(pid, self.placement.server)
        cpus = self.placement.proxies
        for way in self.ways:
            for i, pid in enumerate(way.proxies):
                load.pin(pid, cpus[min(i, len(cpus) - 1)])


def measure(parts: Sequence[Part], rounds: int, seconds: int) -> dict[str, dict[str, list[Run]]]:
    """Runs by way and scenario. All ways of a part in turn, each round beginning with another one: the
    machine's drift hits all alike. Raises LoadError, OSError."""
    results: dict[str, dict[str, list[Run]]] = {}
    for part in parts:
        part.pin()
        name = part.scenario.name
        for turn in range(rounds):
            for i in range(len(part.ways)):
                way = part.ways[(turn + i) % len(part.ways)]
                run = load.run(way, scenario=part.scenario, seconds=seconds, cpu=part.placement.load)
                results.setdefault(way.name, {}).setdefault(name, []).append(run)
                print(
                    f"{name:<18} round {turn + 1}  {way.name:<15}"
                    f" {run.requests_per_second:>9,.0f} req/s  p50 {run.p50:>5.0f} us"
                    f"  proxy CPU {run.proxy_cpu:>5.1f} us  in the kernel {run.carried:>5.1f}%"
                    f"  steal {run.steal:.1f}%",
                    file=sys.stderr,
                )
    return results
