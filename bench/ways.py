"""The same load over several ways, in turn: what the programs here that compare have in common."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import labs
from meshd.bench import accounting, driving, manifests, wanted, wrk
from meshd.bench.checking import Question
from meshd.bench.guards import BusyError
from meshd.bench.plan import Load
from meshd.bench.results import Scenario
from meshd.bench.samples import HeadSizes, LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError
from meshd.lab.names import Lab

_CHECKS = 8


class Ways(NamedTuple):
    """What is compared. ``direct`` is one of the ways."""

    program: str
    """The module's name."""
    scenarios: Mapping[str, Scenario]
    """Each way, and what its lab is brought up as."""
    loads: Sequence[Load]


class Measured(NamedTuple):
    """One run."""

    rps: float
    cpu: float
    """Microseconds of client, server and mesh for each request."""


Found = dict[tuple[Load, str], list[Measured]]


def compare(
    ways: Ways,
    options: argparse.Namespace,
    adapt: Callable[[str, Bed, Path], None],
    ready: Callable[[Mapping[str, Bed]], None] = lambda beds: None,
) -> int:
    """Bring up a lab for each way, measure, and print; the program's exit code.

    ``options``: as of ``parser``. ``adapt``: changes the files of a way's lab, the last one of which is its
    manifest. ``ready``: is called when all are up.
    """
    if missing := labs.missing(list(ways.scenarios.values())):
        print(f"{ways.program}: {missing}", file=sys.stderr)
        return 1
    sizes = {load.body_bytes for load in ways.loads}
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            beds = {
                name: Bed(scenario, Lab(f"way{name[:6].rstrip('-')}"), Path(folder) / name)
                for name, scenario in ways.scenarios.items()
            }
            files = {}
            for name, bed in beds.items():
                bed.folder.mkdir()
                files[bed] = manifests.write(bed.folder, sizes, 1, bed.scenario)
                adapt(name, bed, files[bed])
            with labs.running(files):
                ready(beds)
                found = _rounds(beds, ways.loads, options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"{ways.program}: {error}", file=sys.stderr)
        return 1
    print(_markdown(found))
    return 0


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Of the options that all have."""
    found = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    found.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    found.add_argument("--seconds", type=int, default=1, help="for each run (default: %(default)s)")
    return found


def _once(bed: Bed, load: Load, seconds: int, heads: HeadSizes) -> Measured:
    """Raises LoadError, LabError, OSError."""
    client_cpu, server_cpu = driving.cpus(load)
    bed.pin(client_cpu, server_cpu)
    groups = bed.groups(load.placement)
    command = wrk.command(wanted.url(load), wanted.HEADERS, load.connections, seconds)
    before = accounting.read(groups, ())
    with bed.running(command, client_cpu) as process:
        out, err = process.communicate(timeout=seconds + 30)
    used = accounting.read(groups, ()).cpu_since(before)
    samples = wrk.samples(out + err, load.connections, load.body_bytes, heads)
    if samples.errors:
        raise LoadError(f"{bed.lab.name}: {samples.wrong}")
    return Measured(samples.rps, sum(used.values()) / samples.answers)


def _rounds(beds: Mapping[str, Bed], loads: Sequence[Load], count: int, seconds: int) -> Found:
    """All ways in turn, each round beginning with another one."""
    found: Found = {}
    names = list(beds)
    for load in loads:
        question = Question(wanted.host(load), load, _CHECKS, labs.IN_FORCE_SECONDS)
        heads = {name: bed.check(question) for name, bed in beds.items()}
        for number in range(count):
            for i in range(len(names)):
                name = names[(number + i) % len(names)]
                run = _once(beds[name], load, seconds, heads[name])
                found.setdefault((load, name), []).append(run)
                print(f"round {number + 1}  {load}  {name:<11} {run.rps:>9,.0f} req/s", file=sys.stderr)
    return found


def _markdown(found: Mapping[tuple[Load, str], Sequence[Measured]]) -> str:
    """Medians; the ratio is the median of the ratios within a round."""
    lines = ["| connections | body | way | req/s | x direct | CPU a request |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for (load, name), runs in found.items():
        direct = found[load, "direct"]
        ratio = statistics.median(run.rps / base.rps for run, base in zip(runs, direct, strict=True))
        rps, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        lines.append(
            f"| {load.connections} | {load.body_bytes:,} | {name} | {rps:,.0f} | {ratio:.2f} | {cpu:.1f} us |"
        )
    return "\n".join(lines)
