"""What the kernel's sockmap costs by itself, without HTTP: ``python -m bench.bare_sockmap``.

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
from typing import NamedTuple

from bench import labs
from meshd.bench import accounting, driving, manifests, wrk
from meshd.bench.guards import BusyError
from meshd.bench.plan import Load
from meshd.bench.results import Scenario
from meshd.bench.samples import HeadSizes, LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError
from meshd.lab.decisions.addressing import NodeNet
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

_BEDS: dict[str, Scenario] = {"direct": "direct", "sockmap": "direct", "meshd-fast": "meshd-fast"}
"""What is compared, and what its lab is brought up as."""
_LOADS = (Load("same-node", 64), Load("same-node", 1, 1 << 20), Load("same-node", 4, 1 << 20))
_NODE = NodeNet(1)
_CHECKS = 8
_LOAD_SECONDS = 60
_SENDFILE = "sendfile on;"


class Measured(NamedTuple):
    """One run."""

    rps: float
    cpu: float
    """Microseconds of client, server and mesh for each request."""


Found = dict[tuple[Load, str], list[Measured]]


def _load_sockmap(lab: Lab) -> None:
    """Join the pods of a lab that has no mesh, as bpf/legs.c joins pods with their node's Envoy: to it, every
    pod is a service, too. The lab's end removes it. Raises BedError, OSError.
    """
    group = cgroup.find_root() / lab.node_cgroup(_NODE.name)
    command = [sys.executable, "-m", "meshd.datapath.loading.legs_load"]
    command += ["--instance", lab.instance(_NODE.name), "--cgroup", str(group)]
    command += ["--pods-v4", str(_NODE.pods_v4), "--pods-v6", str(_NODE.pods_v6)]
    command += ["--services-v4", str(_NODE.pods_v4.supernet(new_prefix=16))]
    command += ["--services-v6", str(_NODE.pods_v6)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LOAD_SECONDS, check=False)
    if done.returncode:
        raise BedError(f"the sockmap cannot be loaded: {done.stderr.strip()[-300:]}")


def _once(bed: Bed, load: Load, seconds: int, heads: HeadSizes) -> Measured:
    """Raises LoadError, LabError, OSError."""
    client_cpu, server_cpu = driving.cpus(load)
    bed.pin(client_cpu, server_cpu)
    groups = bed.groups(load.placement)
    command = wrk.command(manifests.url(load), manifests.HEADERS, load.connections, seconds)
    before = accounting.read(groups, ())
    with bed.running(command, client_cpu) as process:
        out, err = process.communicate(timeout=seconds + 30)
    used = accounting.read(groups, ()).cpu_since(before)
    samples = wrk.samples(out + err, load.connections, load.body_bytes, heads)
    if samples.errors:
        raise LoadError(f"{bed.lab.name}: {samples.wrong}")
    return Measured(samples.rps, sum(used.values()) / samples.answers)


def rounds(beds: Mapping[str, Bed], loads: Sequence[Load], count: int, seconds: int) -> Found:
    """All ways in turn, each round beginning with another one. Raises LoadError, LabError, OSError."""
    found: Found = {}
    names = list(beds)
    for load in loads:
        host, size = manifests.host(load), load.body_bytes
        heads = {name: HeadSizes(*bed.check_patiently(host, size, _CHECKS)) for name, bed in beds.items()}
        for number in range(count):
            for i in range(len(names)):
                name = names[(number + i) % len(names)]
                run = _once(beds[name], load, seconds, heads[name])
                found.setdefault((load, name), []).append(run)
                print(f"round {number + 1}  {load}  {name:<11} {run.rps:>9,.0f} req/s", file=sys.stderr)
    return found


def markdown(found: Mapping[tuple[Load, str], Sequence[Measured]]) -> str:
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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bare_sockmap", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=1, help="for each run (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="answers by write(2), not sendfile(2)")
    options = parser.parse_args(arguments)
    if missing := labs.missing(list(_BEDS.values())):
        print(f"bench.bare_sockmap: {missing}", file=sys.stderr)
        return 1
    sizes = {load.body_bytes for load in _LOADS}
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            beds = {
                name: Bed(scenario, Lab(f"bare{name[:6].rstrip('-')}"), Path(folder) / name)
                for name, scenario in _BEDS.items()
            }
            files = {}
            for bed in beds.values():
                bed.folder.mkdir()
                files[bed] = manifests.write(bed.folder, sizes, 1, bed.scenario == "direct")
                config = bed.folder / "nginx.conf"
                if options.write:
                    config.write_text(config.read_text().replace(_SENDFILE, "sendfile off;"))
            with labs.running(files):
                _load_sockmap(beds["sockmap"].lab)
                found = rounds(beds, _LOADS, options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench.bare_sockmap: {error}", file=sys.stderr)
        return 1
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
