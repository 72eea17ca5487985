"""One run of a load on a scenario's lab, with what else is needed to believe it."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hdrh.histogram import HdrHistogram

from meshd.bench import accounting, distribution, h2load, own_tool, wanted, wrk
from meshd.bench.accounting import Reading
from meshd.bench.plan import Load
from meshd.bench.results import NOISY_STEAL_PERCENT, Party, Placement, Round
from meshd.bench.samples import HeadSizes, LoadError, Samples

CLIENT_CPU, SERVER_CPU = 0, 1
_GRACE_SECONDS = 30
_CLOSE = "Connection: close\r\n"


class Place(Protocol):
    """Where the client is: a lab's client pod (testbed.Bed), or the pod that asks itself (kube.inside)."""

    def pin(self, client_cpu: int, server_cpu: int) -> None:
        """Put all in its place."""

    def groups(self, placement: Placement) -> Mapping[Party, Sequence[Path]]:
        """The cgroups of the parties whose CPU time can be read."""

    def carried(self) -> int | None:
        """Requests that the kernel has carried so far; None: not known."""

    def running(
        self, command: Sequence[str], cpu: int | None = None
    ) -> AbstractContextManager[subprocess.Popen[str]]:
        """A command of the client, for the time of the body."""


@dataclass(frozen=True, slots=True)
class Driven:
    """One run."""

    round: Round
    latencies: HdrHistogram | None
    """None: requests failed."""
    wrong: str = ""
    """How."""


def cpus(load: Load) -> tuple[int, int]:
    """The CPUs of the client's and of the server's side.

    With one connection nothing overlaps: on one CPU its time is the work's, on two it is also the time that
    one CPU takes to wake the other, which is a property of the machine.
    """
    server = min(SERVER_CPU, (os.cpu_count() or 1) - 1)
    return (server, server) if load.connections == 1 else (CLIENT_CPU, server)


def drive(bed: Place, load: Load, number: int, seconds: int, heads: HeadSizes, softirq: list[int]) -> Driven:
    """Run a load. Raises LoadError for a run that says nothing, LabError, BedError, OSError."""
    client_cpu, server_cpu = cpus(load)
    bed.pin(client_cpu, server_cpu)
    groups = bed.groups(load.placement)
    carried_before = bed.carried() if load.is_http1 else None
    if load.rate is None and load.protocol != "grpc-stream":
        before = accounting.read(groups, softirq)
        closed = _by_wrk if load.is_http1 else _by_h2load
        samples = closed(bed, load, seconds, heads, client_cpu)
    else:
        with bed.running(own_tool.command(load, seconds), client_cpu) as process:
            _wait_until_ready(process)
            before = accounting.read(groups, softirq)
            samples = _by_own_tool(process, load, seconds)
    after = accounting.read(groups, softirq)
    carried_after = bed.carried() if load.is_http1 else None
    carried = None
    if carried_before is not None and carried_after is not None:
        carried = carried_after - carried_before
    return _driven(number, samples, before, after, carried)


def _driven(number: int, samples: Samples, before: Reading, after: Reading, carried: int | None) -> Driven:
    steal = after.steal_percent_since(before)
    noisy = steal > NOISY_STEAL_PERCENT
    if samples.errors:
        failed = Round(round=number, errors=samples.errors, steal_percent=round(steal, 2), noisy=noisy)
        return Driven(failed, None, samples.wrong)
    latencies = distribution.histogram(samples.latencies.items())
    found = distribution.percentiles(latencies)
    # A tool does not count what is in flight when it ends.
    carried_percent = None if carried is None else min(100.0, round(100 * carried / samples.answers, 1))
    by_party = {party: round(used / samples.answers, 3) for party, used in after.cpu_since(before).items()}
    return Driven(
        Round(
            round=number,
            rps=round(samples.rps, 1),
            p50_us=found.p50,
            p90_us=found.p90,
            p99_us=found.p99,
            p999_us=found.p999,
            max_us=found.max,
            cpu_us_per_request=round(sum(by_party.values()), 3),
            cpu_by_party=by_party,
            carried_percent=carried_percent,
            steal_percent=round(steal, 2),
            noisy=noisy,
        ),
        latencies,
    )


def _by_wrk(bed: Place, load: Load, seconds: int, heads: HeadSizes, cpu: int) -> Samples:
    fields = dict(wanted.HEADERS)
    if load.protocol == "http1-close":
        fields["Connection"] = "close"
        # The check's answers had "Connection: keep-alive" (nginx) or nothing (Envoy); these have "close".
        heads = HeadSizes(heads.least - len("keep-alive") + len("close"), heads.most + len(_CLOSE))
    command = wrk.command(wanted.url(load), fields, load.connections, seconds)
    return wrk.samples(_output(bed, command, seconds, cpu), load.connections, load.body_bytes, heads)


def _by_h2load(bed: Place, load: Load, seconds: int, _heads: HeadSizes, cpu: int) -> Samples:
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as name:
        folder = Path(name)
        h2load.prepare(folder)
        output = _output(bed, h2load.command(load, wanted.HEADERS, seconds, folder), seconds, cpu)
        return h2load.samples(load, output, h2load.log(folder))


def _output(bed: Place, command: Sequence[str], seconds: int, cpu: int) -> str:
    with bed.running(command, cpu) as process:
        try:
            out, err = process.communicate(timeout=seconds + _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LoadError(f"{command[0]} did not end within {_GRACE_SECONDS} s of its time") from None
    return out + err


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    """Until the tool has its connections: what it took to start it is not measured."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _GRACE_SECONDS)
    line = process.stdout.readline() if ready else ""
    if line.strip() != own_tool.READY:
        _, err = process.communicate(timeout=_GRACE_SECONDS) if ready else ("", "it did not connect in time")
        raise own_tool.not_started(line, err)


def _by_own_tool(process: subprocess.Popen[str], load: Load, seconds: int) -> Samples:
    try:
        out, err = process.communicate("go\n", seconds + own_tool.DRAIN_SECONDS + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LoadError(f"the load tool did not end within {_GRACE_SECONDS} s of its time") from None
    return own_tool.samples(load, seconds, out, err)
