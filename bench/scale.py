"""The fast path on a node with much to do beside what is measured: ``python -m bench.scale``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench import labs
from meshd.bench import accounting, driving, manifests, wanted
from meshd.bench.checking import Question
from meshd.bench.guards import BusyError
from meshd.bench.kernel_records import KernelRecords
from meshd.bench.plan import Load
from meshd.bench.results import Round
from meshd.bench.samples import LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.cli import asking
from meshd.cli.errors import CommandError
from meshd.lab.command.client import LabError, ask
from meshd.lab.command.protocol import GetStatus, Status
from meshd.lab.names import Lab
from meshd.model.view import StatusView
from meshd.paths import run_dir

SERVICES, ROUTES_EACH, FLOWS = 1_000, 10, 10_000
_SIZE, _CHECKS = 16, 8
_WORKERS = 2
"""A flow takes two files of its worker's, which commonly may have 20,000."""
_OPEN_SECONDS = 120.0
_IN_FORCE_SECONDS = 60.0
_LOAD = Load("same-node", 64, _SIZE)
_IDLE = "idle"
"""A second server, for the flows that idle: the measured one has as many connections on both nodes."""


def _route(service: str) -> dict[str, Any]:
    """ROUTES_EACH rules; the last but one takes what is measured."""
    paths = [f"/item/{i}" for i in range(ROUTES_EACH - 2)] + ["/bytes", "/"]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": service},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": service, "port": wanted.PORTS["http1"]}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": path}}],
                    "backendRefs": [{"name": service, "port": wanted.PORTS["http1"]}],
                }
                for path in paths
            ],
        },
    }


def _services() -> Iterator[dict[str, Any]]:
    """SERVICES services, the measured one among them."""
    yield _route(wanted.SERVERS["same-node"])
    for i in range(SERVICES - 1):
        yield {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"s{i}", "labels": {"app": _IDLE}},
            "spec": {"selector": {"app": _IDLE}, "ports": [{"name": "http", "port": wanted.PORTS["http1"]}]},
        }
        yield _route(f"s{i}")


def _write(folder: Path, loaded: bool) -> Path:
    folder.mkdir()
    path = manifests.write(folder, (_SIZE,), 1, "meshd-fast")
    if loaded:
        objects = yaml.safe_load_all(path.read_text())
        server = next(one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Pod", "near"))
        server["metadata"] = {"name": _IDLE, "labels": {"app": _IDLE}}
        with path.open("a") as file:
            for one in (server, *_services()):
                file.write("---\n" + json.dumps(one) + "\n")
    return path


@contextlib.contextmanager
def _idle_flows(bed: Bed, folder: Path) -> Iterator[None]:
    """FLOWS keep-alive connections over all services but the measured one, each of which has had an answer.

    Raises LoadError, LabError, OSError.
    """
    services = ask(bed.lab, GetStatus(), Status).services
    addresses = [one.ip for one in services if one.name[1:].isdecimal()]
    file = folder / "addresses"
    file.write_text("\n".join(addresses))
    program = str(Path(__file__).with_name("idle_flows.py"))
    with bed.running(
        (sys.executable, program, str(FLOWS), str(wanted.PORTS["http1"]), wanted.path(_SIZE))
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{file}\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], _OPEN_SECONDS)
        if not ready:
            raise LoadError(f"{FLOWS} connections were not open after {_OPEN_SECONDS:g} s")
        if process.stdout.readline().strip() != "open":
            raise LoadError(f"the extra connections failed: {process.stderr.read()}")
        yield


def _wait_until_in_force(bed: Bed) -> None:
    """Until the agent has all services. Raises LoadError, CommandError."""
    deadline = time.monotonic() + _IN_FORCE_SECONDS
    agent = run_dir(bed.lab.instance("node1")) / "agent.sock"
    while (found := msgspec.json.decode(asking.get(agent, "status"), type=StatusView).services) < SERVICES:
        if time.monotonic() > deadline:
            raise LoadError(f"after {_IN_FORCE_SECONDS:g} s only {found} services are in force")
        time.sleep(0.2)
    for i in (0, SERVICES - 2):  # and their endpoints
        bed.check(Question(f"s{i}", _LOAD, 1, labs.IN_FORCE_SECONDS))


def _idle_percent(bed: Bed, seconds: int) -> float:
    """Of one CPU, by the agent and its workers, while nobody calls."""
    groups = bed.groups("same-node")
    before, began = accounting.read(groups, ()), time.monotonic()
    time.sleep(seconds)
    used = accounting.read(groups, ()).cpu_since(before)["proxy"]
    return 100 * used / 1e6 / (time.monotonic() - began)


def _rounds(beds: Sequence[Bed], count: int, seconds: int) -> dict[str, list[Round]]:
    """Of each bed, in turns, each round beginning with the other one."""
    found: dict[str, list[Round]] = {bed.lab.name: [] for bed in beds}
    softirq = accounting.softirq_threads()
    question = Question(wanted.host(_LOAD), _LOAD, _CHECKS, labs.IN_FORCE_SECONDS)
    heads = {bed: bed.check(question) for bed in beds}
    for number in range(1, count + 1):
        for bed in beds if number % 2 else beds[::-1]:
            driven = driving.drive(bed, _LOAD, number, seconds, heads[bed], softirq)
            if driven.wrong:
                raise LoadError(f"{bed.lab.name}: {driven.wrong}")
            one = driven.round
            print(
                f"round {number}  {bed.lab.name:<11} {one.rps:>9,.0f} req/s"
                f"  p50 {one.p50_us:>5.0f}  p99 {one.p99_us:>6.0f} us"
                f"  in the kernel {one.carried_percent:>5.1f} %  steal {one.steal_percent:.1f} %",
                file=sys.stderr,
            )
            found[bed.lab.name].append(one)
    return found


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--seconds", type=int, default=2, help="for each run (default: %(default)s)")
    return parser.parse_args(arguments)


def _measure(folder: Path, rounds: int, seconds: int) -> None:
    one = Bed("meshd-fast", Lab("scaleone"), folder / "one")
    loaded = Bed("meshd-fast", Lab("scaleloaded"), folder / "loaded")
    began = time.monotonic()
    files = {one: _write(one.folder, loaded=False), loaded: _write(loaded.folder, loaded=True)}
    with contextlib.ExitStack() as stack:
        stack.enter_context(labs.running(files, "--workers", str(_WORKERS)))
        _wait_until_in_force(loaded)
        stack.enter_context(_idle_flows(loaded, folder))
        print(f"{SERVICES} services and {FLOWS} flows: {time.monotonic() - began:.0f} s", file=sys.stderr)
        idle = _idle_percent(loaded, seconds)
        found = _rounds((one, loaded), rounds, seconds)
        if (flows := KernelRecords(loaded.lab.instance("node1")).flows()) < FLOWS:
            raise LoadError(f"of {FLOWS} extra flows only {flows} were left in the end")
    pairs = zip(found[loaded.lab.name], found[one.lab.name], strict=True)
    ratio = statistics.median((ours.rps or 0) / (theirs.rps or 1) for ours, theirs in pairs)
    print(f"- {SERVICES:,} services of {ROUTES_EACH} routes, {flows:,} flows")
    print(f"- the idle workers used {idle:.1f} % of a CPU")
    print(f"- c=64 throughput, of that with one of each (goal: 0.9): **{ratio:.2f}**")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    if missing := labs.missing(["meshd-fast"]):
        print(f"bench.scale: {missing}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="meshd-bench-") as name:
            _measure(Path(name), options.rounds, options.seconds)
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, CommandError, LabError, LoadError, OSError, KeyError) as error:
        print(f"bench.scale: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
