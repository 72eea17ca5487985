"""The whole of a benchmark: labs up, answers checked, rounds, memory, labs down, whatever comes between."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from hdrh.histogram import HdrHistogram

from meshd.bench import (
    accounting,
    distribution,
    driving,
    guards,
    machine,
    manifests,
    memory,
    results,
    testbed,
    wanted,
)
from meshd.bench.checking import Finding, Question
from meshd.bench.driving import Driven
from meshd.bench.guards import Deadline
from meshd.bench.plan import Load, Plan, Run
from meshd.bench.results import Case, Memory, Report, Row, Scenario, Settings
from meshd.bench.samples import HeadSizes, LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError

_CHECKS = 8
_IN_FORCE_SECONDS = 10.0
_HEAD_SLACK = 4
"""Bytes by which a head may be longer than those that the check saw: Envoy writes a time into it."""
_UP_SECONDS = 120
_MAX_FAILURES = 2
_RUN_OVERHEAD = 0.3
"""Seconds that a run takes beside its load, until it is known."""
_FAILURES = (LoadError, BedError, LabError, OSError, KeyError, subprocess.TimeoutExpired)

Say = Callable[[str], None]


class Benchmark:
    """One run of a plan. ``run`` may be called once."""

    def __init__(self, plan: Plan, prefix: str, command: str, say: Say) -> None:
        """``prefix``: of the labs' names. ``say``: takes lines of progress."""
        self.interrupted = False
        """By a signal."""
        self._plan = plan
        self._prefix = prefix
        self._command = command
        self._say = say
        self._beds: dict[Scenario, Bed] = {}
        self._reasons: dict[Case, str] = {}
        """What went wrong with a case last; a case without rounds is not measured because of it."""
        self._given_up: set[Case] = set()
        self._failures: Counter[Case] = Counter()
        """Runs that said nothing."""
        self._heads: dict[Case, HeadSizes] = {}
        """Of the cases whose answers are right."""
        self._rounds: dict[Case, list[results.Round]] = {}
        self._latencies: dict[Case, list[HdrHistogram]] = {}
        self._rss: dict[Case, float] = {}
        self._memory: list[Memory] = []
        self._softirq = accounting.softirq_threads()
        self._deadline = Deadline(plan.minutes, say)

    def run(self) -> Report:
        """Measure. SIGINT and SIGTERM end it early: the report is partial then. Raises BusyError, OSError."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        facts = machine.facts()
        with guards.alone(self._prefix), tempfile.TemporaryDirectory(prefix="meshd-bench-") as name:
            partial = self._interruptible(Path(name))
        rows = tuple(self._rows())
        return Report(
            date=date,
            partial=partial,
            machine=facts,
            settings=self._settings(),
            results=rows,
            ratios=results.ratios(rows),
            memory=tuple(self._memory),
        )

    def _interruptible(self, folder: Path) -> bool:
        """Whether it was ended early. The labs are gone afterwards, or it is said that they are not."""
        beds = [Bed.named(self._prefix, scenario, folder / scenario) for scenario in self._plan.scenarios]
        with guards.signals_interrupt():
            try:
                self._take_down(beds)  # what a benchmark that was killed has left
                self._bring_up(beds)
                self._check()
                self._measure()
                self._take_down(beds)
                self._memory += memory.measured(beds, self._plan.memory_pods, self._deadline, self._say)
                return self._deadline.has_cut
            except KeyboardInterrupt:
                self._say("interrupted: the labs are taken down, and a partial report is written")
                self.interrupted = True
                return True
            finally:
                with guards.signals_ignored():
                    self._take_down(beds)

    def _take_down(self, beds: Sequence[Bed]) -> None:
        for problem in testbed.take_down(beds):
            self._say(problem)
        self._beds.clear()

    def _bring_up(self, beds: Sequence[Bed]) -> None:
        self._say(f"labs: {', '.join(bed.scenario for bed in beds)}")
        began = time.monotonic()
        with guards.ended() as starting:
            for bed in beds:
                bed.folder.mkdir()
                manifest = manifests.write(
                    bed.folder, self._plan.bodies, self._plan.nodes, bed.scenario, self._plan.has_streams
                )
                starting.append(bed.up(manifest, self._plan.nodes))
            for bed, process in zip(beds, starting, strict=True):
                if reason := testbed.wait(process, _UP_SECONDS):
                    self._say(f"{bed.scenario}: no lab: {reason}")
                    for load in self._plan.loads:
                        self._give_up(load.case(bed.scenario), f"its lab did not start: {reason}")
                else:
                    self._beds[bed.scenario] = bed
        self._say(f"labs are up after {time.monotonic() - began:.0f} s")

    def _check(self) -> None:
        """Are all answers the same in all scenarios? What is not, is not measured."""
        loads = [load for load in self._plan.loads if not load.impossible]
        asked = dict.fromkeys(load.asked_once for load in loads)
        questions = [Question(wanted.host(load), load, _CHECKS, _IN_FORCE_SECONDS) for load in asked]
        for scenario, bed in self._beds.items():
            try:
                found = dict(zip(asked, bed.checked(questions), strict=True))
            except _FAILURES as error:
                found = dict.fromkeys(asked, Finding(wrong=str(error)))
            for load in loads:
                answer = found[load.asked_once]
                if answer.wrong:
                    self._say(f"{scenario}, {load}: {answer.wrong}")
                    self._give_up(load.case(scenario), answer.wrong)
                else:
                    self._heads[load.case(scenario)] = HeadSizes(answer.least, answer.most + _HEAD_SLACK)

    def _give_up(self, case: Case, reason: str) -> None:
        self._reasons[case] = reason
        self._given_up.add(case)

    def _measure(self) -> None:
        runs = list(self._plan.runs())
        began, taken = time.monotonic(), 0
        for i, run in enumerate(runs):
            if self._deadline.passed(f"{len(runs) - i} runs are not made"):
                break
            each = (time.monotonic() - began) / taken if taken else self._plan.seconds + _RUN_OVERHEAD
            taken += self._one(run, (len(runs) - i) * each)

    def _one(self, run: Run, seconds_left: float) -> bool:
        """One run, and whether it was made."""
        case = run.load.case(run.scenario)
        if case in self._given_up:
            return False
        bed = self._beds[run.scenario]
        seconds = self._plan.seconds if run.round else 1
        what = f"round {run.round}/{self._plan.rounds}" if run.round else "warm-up "
        line = f"{_clock(seconds_left)} left  {what}  {run.load!s:<40} {run.scenario:<18}"
        try:
            driven = driving.drive(bed, run.load, run.round, seconds, self._heads[case], self._softirq)
        except _FAILURES as error:
            self._say(f"{line} not measured: {error}")
            self._failures[case] += 1
            self._reasons[case] = str(error)
            if self._failures[case] == _MAX_FAILURES:
                self._given_up.add(case)
            return True
        self._say(f"{line} {_figures(driven)}")
        if run.round:
            self._rounds.setdefault(case, []).append(driven.round)
            if driven.latencies is not None:
                self._latencies.setdefault(case, []).append(driven.latencies)
            else:
                self._reasons[case] = driven.wrong
            self._rss[case] = round(accounting.resident_mb(bed.mesh_processes(run.load.placement)), 1)
        return True

    def _rows(self) -> Iterator[Row]:
        for load in self._plan.loads:
            for scenario in self._plan.scenarios:
                case = load.case(scenario)
                if load.impossible:
                    yield results.not_measured(case, load.impossible)
                else:
                    yield self._row(case)

    def _row(self, case: Case) -> Row:
        found = results.row(
            case,
            self._rounds.get(case, ()),
            mesh_rss_mb=self._rss.get(case),
            histogram=distribution.points(distribution.merged(self._latencies.get(case, ()))),
        )
        if found.not_measured and (reason := self._reasons.get(case)):
            return msgspec.structs.replace(found, not_measured=reason)
        return found

    def _settings(self) -> Settings:
        client, server = driving.cpus(Load("same-node", connections=2))
        return Settings(
            command=self._command,
            rounds=self._plan.rounds,
            duration_s=float(self._plan.seconds),
            warm_up_s=1.0,
            quick=self._plan.quick,
            cpu_placement={
                "client and what is on its side": f"CPU {client}",
                "server and what is on its side": f"CPU {server}",
                "with one connection": f"all on CPU {server}",
            },
            config=_CONFIG,
            not_covered=_NOT_COVERED,
        )


_CONFIG = {
    "envoy": "--concurrency 1, no access log, no TLS, config from meshd control",
    "meshd": "one worker a node, no access log",
    "server": "nginx, one worker, no access log; bodies over 4 KiB by sendfile, gRPC's messages from files",
    "streams' server": "grpc.aio, one process",
    "closed loop": "HTTP/1.1: wrk, one thread; the samples that wrk adds to its latencies are taken out. "
    "HTTP/2 and unary gRPC: h2load, one thread, one connection",
    "open loop": "fixed rate; latency counts from when a request was due",
    "softirq": "time of the ksoftirqd threads; what runs within a process's time is in that process's",
}
_NOT_COVERED = ("TLS: the mesh does not encrypt yet, so no scenario does.",)


def _figures(driven: Driven) -> str:
    found = driven.round
    if found.rps is None:
        return f"not counted: {driven.wrong}"
    noisy = f"  steal {found.steal_percent:.1f} %: noisy" if found.noisy else ""
    return (
        f"{found.rps:>9,.0f}/s  p50 {found.p50_us:>6,.0f}  p99 {found.p99_us:>7,.0f} us"
        f"  CPU {found.cpu_us_per_request:>6.1f} us{noisy}"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:>3}:{int(seconds) % 60:02}"
