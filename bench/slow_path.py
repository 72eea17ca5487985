"""The slow path against no mesh, one Envoy and a pair of Envoys: ``python -m bench.slow_path``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import load, meshd_target, report, requirements, rounds, slow_path_report, targets
from bench.load import Scenario
from bench.network import Network
from bench.rounds import Part, Placement
from tests.support.mesh_node import MeshNodeError

_SCENARIOS = (
    Scenario("c=1", 1),
    Scenario("c=16", 16),
    Scenario("c=64", 64),
    Scenario("c=64 distinct", 64, distinct=True),
)
_LOAD_CPU, _PROXY_CPU = 0, 1


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.slow_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all targets (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=1, help="seconds for each run (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    return parser.parse_args(arguments)


def _placement(scenario: Scenario) -> Placement:
    # With one connection nothing overlaps: on one CPU its time is the work's, on two the wake-ups'.
    load_cpu = _PROXY_CPU if scenario.connections == 1 else _LOAD_CPU
    return Placement(load_cpu, load_cpu, (_PROXY_CPU,))


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    if missing := requirements.missing():
        print(f"bench.slow_path: {missing}", file=sys.stderr)
        return 1
    try:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meshd-bench-")))
            network = stack.enter_context(Network())
            server = stack.enter_context(targets.nginx(network, directory, network.server))
            ways = [
                targets.direct(network),
                stack.enter_context(meshd_target.meshd(network, directory)),
                stack.enter_context(targets.one_envoy(network, directory)),
                stack.enter_context(targets.envoy_pair(network, directory)),
            ]
            for way in ways:
                targets.wait_until_it_answers(way)
            parts = [Part(scenario, ways, (server,), _placement(scenario)) for scenario in _SCENARIOS]
            results = rounds.measure(parts, options.rounds, options.seconds)
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
    print(slow_path_report.markdown(results, resident))
    if options.output is not None:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        document = report.document(
            results, slow_path_report.COMPARISONS, settings, {"resident_bytes": resident}
        )
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
