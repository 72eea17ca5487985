"""What a request over HTTP/2 costs, with and without a mesh: ``python -m bench.http2``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from bench import labs
from meshd.bench import accounting, driving, manifests
from meshd.bench.guards import BusyError
from meshd.bench.plan import Load
from meshd.bench.results import Scenario
from meshd.bench.samples import LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError
from meshd.lab.names import Lab

_NAMES: dict[Scenario, str] = {
    "direct": "http2direct", "sidecar": "http2side", "node-proxy": "http2node", "meshd-slow": "http2slow",
}  # fmt: skip
_PORT = manifests.PORT + 1
_BODY = 16
_STREAMS = (1, 64)
"""At a time, on one connection."""
_DONE = re.compile(
    r"finished in ([\d.]+)s, .*requests: (\d+) total, .* (\d+) done, (\d+) succeeded", re.DOTALL
)


class Run(NamedTuple):
    """One."""

    rps: float
    p50_us: float
    p99_us: float
    cpu_us: float
    """Of the mesh, a request."""


Found = dict[tuple[int, Scenario], list[Run]]
"""By number of streams and scenario."""


def _write(folder: Path) -> Path:
    """The benchmark's own pods, whose server speaks HTTP/2 on a port of its own, too."""
    manifest = manifests.write(folder, (_BODY,), 1, False)
    config = folder / "nginx.conf"
    text = config.read_text()
    listen = re.search(r"^ *listen .*;$", text, re.MULTILINE)
    assert listen is not None
    more = listen[0].replace(str(manifests.PORT), str(_PORT)).replace(";", " http2;")
    config.write_text(text.replace(listen[0], f"{listen[0]}\n{more}"))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "near-http2"},
        "spec": {
            "selector": {"app": "near"},
            "ports": [{"name": "grpc", "port": _PORT, "appProtocol": "kubernetes.io/h2c"}],
        },
    }
    manifest.write_text(f"{manifest.read_text()}\n---\n{yaml.safe_dump(service)}")
    return manifest


def _once(bed: Bed, streams: int, seconds: int, log: Path) -> Run:
    """One run. Raises LoadError, LabError, OSError."""
    load = Load("same-node", streams, _BODY)
    client_cpu, server_cpu = driving.cpus(load)
    bed.pin(client_cpu, server_cpu)
    command = [
        "h2load", "--clients", "1", "--max-concurrent-streams", str(streams), "--duration", str(seconds),
        "--log-file", str(log), f"http://near-http2:{_PORT}{manifests.path(_BODY)}",
    ]  # fmt: skip
    log.unlink(missing_ok=True)
    groups = bed.groups(load.placement)
    before = accounting.read(groups, ())
    with bed.running(command, client_cpu) as process:
        out, err = process.communicate(timeout=seconds + 30)
    used = accounting.read(groups, ()).cpu_since(before)["proxy"]
    found = _DONE.search(out)
    if found is None or not int(found[3]) or found[3] != found[4]:
        raise LoadError(f"{bed.scenario}: {(out + err).strip()[-400:]}")
    # Columns: start, status, microseconds.
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    if wrong := {line[1] for line in lines} - {"200"}:
        raise LoadError(f"{bed.scenario}: answered with {', '.join(sorted(wrong))}")
    times = statistics.quantiles((int(line[2]) for line in lines), n=100)
    answers = int(found[3])
    return Run(answers / seconds, times[49], times[98], used / answers)


def _rounds(beds: Sequence[Bed], count: int, seconds: int) -> Found:
    """All scenarios in turn, each round beginning with another one."""
    found: Found = {}
    for bed in beds:
        bed.check_patiently("near", _BODY, 1)
    for number in range(count + 1):
        for streams in _STREAMS:
            for i in range(len(beds)):
                bed = beds[(number + i) % len(beds)]
                run = _once(bed, streams, seconds if number else 1, bed.folder / "h2load.log")
                if number:
                    found.setdefault((streams, bed.scenario), []).append(run)
                print(
                    f"round {number}  {streams:>3} streams  {bed.scenario:<11} {run.rps:>9,.0f} req/s"
                    f"  p50 {run.p50_us:,.0f} us  p99 {run.p99_us:,.0f} us  mesh CPU {run.cpu_us:>5.1f} us",
                    file=sys.stderr,
                )
    return found


def markdown(found: Mapping[tuple[int, Scenario], Sequence[Run]]) -> str:
    """Medians."""
    lines = [
        "| streams | scenario | req/s | p50 | p99 | mesh's CPU a request |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for (streams, scenario), runs in found.items():
        run = Run(*(statistics.median(values) for values in zip(*runs, strict=True)))
        lines.append(
            f"| {streams} | {scenario} | {run.rps:,.0f} | {run.p50_us:,.0f} us | {run.p99_us:,.0f} us"
            f" | {run.cpu_us:.0f} us |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.http2", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="for each run (default: %(default)s)")
    options = parser.parse_args(arguments)
    missing = labs.missing(list(_NAMES)) or ("" if shutil.which("h2load") else "h2load is not installed")
    if missing:
        print(f"bench.http2: {missing}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
            beds = [Bed(scenario, Lab(name), Path(folder) / name) for scenario, name in _NAMES.items()]
            for bed in beds:
                bed.folder.mkdir()
            with labs.running({bed: _write(bed.folder) for bed in beds}):
                found = _rounds(beds, options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench.http2: {error}", file=sys.stderr)
        return 1
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
