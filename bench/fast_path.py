"""The fast path against no mesh and a pair of Envoys, and under many services, routes and flows:
``python -m bench.fast_path``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import cgroups, load, meshd_target, report, requirements, rounds, scale, targets
from bench import fast_path_report as names
from bench.load import Run, Scenario
from bench.network import FAR_SERVER_ADDRESS, FAR_VIP, SERVER_ADDRESS, VIP, Network
from bench.rounds import Part, Placement
from bench.services import Service
from bench.targets import SERVER_PORT
from meshd.datapath.errors import DatapathError
from tests.support.envoy import EnvoyError
from tests.support.mesh_node import MeshNodeError

_MANY = Scenario(names.MANY, 64)
_SINGLE = Scenario(names.SINGLE, 1)
_SINGLE_APART = Scenario(names.SINGLE_APART, 1)
_LARGE = Scenario(names.LARGE, 4, path=targets.LARGE)
_ACROSS = Scenario(names.ACROSS, 64)
_SCALE = Scenario(names.SCALE, 64, path=scale.PATH)

_APART = Placement(load=0, server=1, proxies=(0, 1))
"""As sidecars run: each with its app."""
_TOGETHER = Placement(load=1, server=1, proxies=(1,))
"""With one connection nothing overlaps: on one CPU its time is the work's, on two the wake-ups' too."""

Results = dict[str, dict[str, list[Run]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What the loaded node held."""

    flows: int
    armed: int
    """Of those, after the last run."""
    set_up_seconds: float
    idle_cpu_percent: float
    """Of one CPU, by its workers, while nobody calls."""


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.fast_path", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all ways (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="seconds for each run (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    return parser.parse_args(arguments)


def _measure_ways(directory: Path, count: int, seconds: int) -> Results:
    """Pods of one node, and of two."""
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(cgroups.made(f"mb-{directory.name}-near"))
        far = stack.enter_context(cgroups.made(f"mb-{directory.name}-far"))
        network = stack.enter_context(Network(near))
        far_pod = network.add_far_server(far)
        server = stack.enter_context(targets.nginx(network, directory, network.server))
        far_server = stack.enter_context(targets.nginx(network, directory, far_pod))
        web = Service("web", VIP, (SERVER_ADDRESS, SERVER_PORT))
        far_web = Service("far-web", FAR_VIP, (FAR_SERVER_ADDRESS, SERVER_PORT))
        node = stack.enter_context(meshd_target.agent(network, directory, [web, far_web]))
        direct = targets.direct(network)
        far_direct = targets.direct(network, FAR_SERVER_ADDRESS)
        meshd = meshd_target.target(names.MESHD, network, web, node)
        far_meshd = meshd_target.target(names.MESHD, network, far_web, node)
        pair = stack.enter_context(targets.envoy_pair(network, directory))
        for way in (direct, meshd, pair, far_direct, far_meshd):
            targets.wait_until_it_answers(way)
        return rounds.measure(
            [
                Part(_MANY, (direct, meshd, pair), (server,), _APART),
                Part(_SINGLE, (direct, meshd, pair), (server,), _TOGETHER),
                Part(_SINGLE_APART, (direct, meshd, pair), (server,), _APART),
                Part(_LARGE, (direct, meshd, pair), (server,), _APART),
                Part(_ACROSS, (far_direct, far_meshd), (far_server,), _APART),
            ],
            count,
            seconds,
        )


def _measure_scale(directory: Path, count: int, seconds: int) -> tuple[Results, Load]:
    """Both nodes at once, so that their rounds can be interleaved; what idles is measured too."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(scale.one_of_each(directory))
        began = time.monotonic()
        loaded = stack.enter_context(scale.loaded(directory))
        took = time.monotonic() - began
        print(f"{scale.SERVICES} services and {scale.FLOWS} flows: {took:.1f} s", file=sys.stderr)
        for each in (one, loaded):
            targets.wait_until_it_answers(each.target)
        idle = load.cpu_percent(loaded.target.proxies, seconds)
        part = Part(_SCALE, (one.target, loaded.target), (one.server, loaded.server), _APART)
        results = rounds.measure([part], count, seconds)
        if (flows := loaded.records.flows()) < scale.FLOWS:
            raise load.LoadError(f"of {scale.FLOWS} extra flows only {flows} were left in the end")
        return results, Load(flows, loaded.records.armed(), took, idle)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    if missing := requirements.missing():
        print(f"bench.fast_path: {missing}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as name:
            directory = Path(name)
            # Nothing of the many flows is there while the ways are measured.
            results = _measure_ways(directory, options.rounds, options.seconds)
            of_scale, held = _measure_scale(directory, options.rounds, options.seconds)
            results |= of_scale
    except (
        targets.TargetError,
        load.LoadError,
        MeshNodeError,
        EnvoyError,
        DatapathError,
        KeyError,
        OSError,
        subprocess.CalledProcessError,
    ) as error:
        print(f"bench.fast_path: {error}", file=sys.stderr)
        return 1
    print(names.markdown(results))
    print(
        f"- {held.flows:,} extra flows, of which {held.armed:,} were armed in the end; set up in"
        f" {held.set_up_seconds:.0f} s; the idle workers used {held.idle_cpu_percent:.1f}% of a CPU"
    )
    if options.output is not None:
        settings = {"rounds": options.rounds, "seconds": options.seconds}
        document = report.document(results, names.COMPARISONS, settings, {"load": dataclasses.asdict(held)})
        options.output.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
