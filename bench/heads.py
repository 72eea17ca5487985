"""The slow path when no two requests have the same head: ``python -m bench.heads``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import labs
from meshd.bench import accounting, driving, manifests, wanted, wrk
from meshd.bench.checking import Question
from meshd.bench.guards import BusyError
from meshd.bench.plan import Load
from meshd.bench.results import Scenario
from meshd.bench.samples import HeadSizes, LoadError, Samples
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError
from meshd.lab.names import Lab

_NAMES: dict[Scenario, str] = {"meshd-slow": "headsslow", "node-proxy": "headsnode", "sidecar": "headsside"}
_SCRIPTS = {"one head": wrk.SCRIPT, "distinct heads": Path(__file__).with_name("wrk_distinct.lua")}
_LOAD = Load("same-node", 64)
_CHECKS = 8
_SLACK = 4
"""Bytes by which heads may be longer than in the check: Envoy writes a time into them."""

Found = dict[tuple[Scenario, str], list[tuple[float, float]]]
"""By scenario and script: requests a second, and CPU microseconds of the mesh for each."""


def _once(bed: Bed, script: Path, seconds: int, heads: HeadSizes) -> tuple[Samples, float]:
    """One run, and the mesh's CPU time for a request. Raises LoadError, LabError, OSError."""
    client_cpu, server_cpu = driving.cpus(_LOAD)
    bed.pin(client_cpu, server_cpu)
    groups = bed.groups(_LOAD.placement)
    command = wrk.command(wanted.url(_LOAD), wanted.HEADERS, _LOAD.connections, seconds, script)
    before = accounting.read(groups, ())
    with bed.running(command, client_cpu) as process:
        out, err = process.communicate(timeout=seconds + 30)
    used = accounting.read(groups, ()).cpu_since(before)["proxy"]
    samples = wrk.samples(out + err, _LOAD.connections, _LOAD.body_bytes, heads)
    if samples.errors:
        raise LoadError(f"{bed.scenario}: {samples.wrong}")
    return samples, used / samples.answers


def _rounds(beds: Sequence[Bed], count: int, seconds: int) -> Found:
    """All ways in turn, each round beginning with another one."""
    found: Found = {}
    heads = {}
    for bed in beds:
        sizes = bed.check(Question(wanted.host(_LOAD), _LOAD, _CHECKS, labs.IN_FORCE_SECONDS))
        heads[bed] = HeadSizes(sizes.least, sizes.most + _SLACK)
    for number in range(count):
        for name, script in _SCRIPTS.items():
            for i in range(len(beds)):
                bed = beds[(number + i) % len(beds)]
                samples, cpu = _once(bed, script, seconds, heads[bed])
                found.setdefault((bed.scenario, name), []).append((samples.rps, cpu))
                print(
                    f"round {number + 1}  {name:<14} {bed.scenario:<11} {samples.rps:>9,.0f} req/s"
                    f"  proxy CPU {cpu:>5.1f} us",
                    file=sys.stderr,
                )
    return found


def markdown(found: Mapping[tuple[Scenario, str], Sequence[tuple[float, float]]]) -> str:
    """Medians."""
    lines = ["| scenario | heads | req/s | proxy CPU a request |", "| --- | --- | --- | --- |"]
    for (scenario, name), runs in found.items():
        rps, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        lines.append(f"| {scenario} | {name} | {rps:,.0f} | {cpu:.0f} us |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.heads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="for each run (default: %(default)s)")
    options = parser.parse_args(arguments)
    if missing := labs.missing(list(_NAMES)):
        print(f"bench.heads: {missing}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            beds = [Bed(scenario, Lab(name), Path(folder) / name) for scenario, name in _NAMES.items()]
            for bed in beds:
                bed.folder.mkdir()
            files = {bed: manifests.write(bed.folder, (_LOAD.body_bytes,), 1, bed.scenario) for bed in beds}
            with labs.running(files):
                found = _rounds(beds, options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench.heads: {error}", file=sys.stderr)
        return 1
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
