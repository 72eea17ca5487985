"""The slow path against no mesh, one Envoy and a pair of Envoys: ``python -m bench.slow_path``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import load, meshd_target, report, targets
from bench.load import Scenario
from bench.network import Network
from tests.support.mesh_node import MeshNodeError

_SCENARIOS = (
    Scenario("c=1", 1),
    Scenario("c=16", 16),
    Scenario("c=64", 64),
    Scenario("c=64 distinct", 64, distinct=True),
)
_LOAD_CPU, _PROXY_CPU = 0, 1
_PROGRAMS = ("ip", "nginx", "taskset", "wrk")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.slow_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all targets (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="seconds for each run (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    return parser.parse_args(arguments)


def _measure(
    network: Network, ways: Sequence[targets.Target], server: int, rounds: int, seconds: int
) -> dict[str, dict[str, list[load.Run]]]:
    """Every target in turn, each round beginning with another one: the machine's drift hits all alike."""
    results: dict[str, dict[str, list[load.Run]]] = {
        way.name: {scenario.name: [] for scenario in _SCENARIOS} for way in ways
    }
    for scenario in _SCENARIOS:
        # With one connection nothing overlaps: on one CPU its time is the work's, on two the wake-ups'.
        load_cpu = _PROXY_CPU if scenario.connections == 1 else _LOAD_CPU
        load.pin(server, load_cpu)
        for way in ways:
            for pid in way.proxies:
                load.pin(pid, _PROXY_CPU)
        for turn in range(rounds):
            for i in range(len(ways)):
                way = ways[(turn + i) % len(ways)]
                run = load.run(
                    network,
                    network.client,
                    way.url,
                    scenario=scenario,
                    seconds=seconds,
                    cpu=load_cpu,
                    proxies=way.proxies,
                )
                results[way.name][scenario.name].append(run)
                print(
                    f"{scenario.name:<13} round {turn + 1}  {way.name:<15}"
                    f" {run.requests_per_second:>9,.0f} req/s  p50 {run.p50:>5.0f} us"
                    f"  proxy CPU {run.proxy_cpu:>5.1f} us  steal {run.steal:.1f}%",
                    file=sys.stderr,
                )
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    if missing := [program for program in _PROGRAMS if shutil.which(program) is None]:
        print(f"bench.slow_path: not installed: {', '.join(missing)}", file=sys.stderr)
        return 1
    if (os.cpu_count() or 1) < 2 or os.geteuid() != 0:
        print("bench.slow_path: needs root and two CPUs", file=sys.stderr)
        return 1
    try:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshd-bench-")))
            network = stack.enter_context(Network())
            server = stack.enter_context(targets.nginx(network, directory))
            ways = [
                targets.direct(),
                stack.enter_context(meshd_target.meshd(network, directory)),
                stack.enter_context(targets.one_envoy(network, directory)),
                stack.enter_context(targets.envoy_pair(network, directory)),
            ]
            for way in ways:
                targets.wait_until_it_answers(network, way)
            results = _measure(network, ways, server, options.rounds, options.seconds)
            resident = {way.name: sum(map(load.resident_bytes, way.proxies)) for way in ways}
    except (
        targets.TargetError,
        load.LoadError,
        MeshNodeError,
        OSError,
        subprocess.CalledProcessError,
    ) as error:
        print(f"bench.slow_path: {error}", file=sys.stderr)
        return 1
    print(report.markdown(results, resident))
    if options.output is not None:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        options.output.write_text(json.dumps(report.document(results, resident, settings), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
