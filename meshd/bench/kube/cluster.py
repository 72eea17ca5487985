"""A benchmark on a cluster: objects created, a Job for each run, what it found, everything deleted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from hdrh.histogram import HdrHistogram
from msgspec.structs import replace

from meshd.bench import distribution, guards, results
from meshd.bench.kube import objects, pods
from meshd.bench.kube.kubectl import Kubectl, KubectlError
from meshd.bench.kube.objects import CONTAINER, Object
from meshd.bench.kube.options import NO_SUCH_SCENARIO, PREFIX, SCENARIOS, Options, possible
from meshd.bench.kube.task import Finding, TaskError, finding
from meshd.bench.plan import Plan, Run
from meshd.bench.results import Case, Machine, Report, Row, Scenario, Settings

_READY_SECONDS = 180.0
_RUN_SECONDS = 150.0
"""For a Job beside its load: its pod is scheduled and started, its image pulled, its answers checked."""
_POLL_SECONDS = 0.5
_JOB_OVERHEAD = 5.0
"""Seconds that a run takes beside its load, until it is known."""
_MAX_FAILURES = 2
_IN_THE_CLIENT = frozenset({"meshd", "wrk", "python", "hdrhistogram"})
"""What a client's pod can tell the version of."""
_ABSENT = Machine(kernel="", distribution="", cpu_model="unknown", cpus=0, memory_mb=0, versions={})

Say = Callable[[str], None]


class LeftoverError(Exception):
    """Namespaces of an earlier benchmark are there; the message says what to do."""


class ClusterBenchmark:
    """One run of a plan on a cluster. ``run`` may be called once."""

    def __init__(self, plan: Plan, options: Options, kubectl: Kubectl, command: str, say: Say) -> None:
        """``say``: takes lines of progress."""
        self.interrupted = False
        """By a signal."""
        self._plan = plan
        self._options = options
        self._kubectl = kubectl
        self._command = command
        self._say = say
        self._reasons: dict[Case, str] = {}
        """What went wrong with a case last."""
        self._lost: dict[Scenario, str] = {}
        """Scenarios that cannot be measured at all, and why."""
        self._failures: Counter[Case] = Counter()
        """Runs that said nothing; with _MAX_FAILURES of them a case is given up."""
        self._rounds: dict[Case, list[results.Round]] = {}
        self._latencies: dict[Case, list[HdrHistogram]] = {}
        self._deadline = guards.Deadline(plan.minutes, say)
        self._machine = _ABSENT
        self._nodes: dict[str, str] = {}
        self._version = ""

    def run(self) -> Report:
        """Measure. SIGINT and SIGTERM end it early: the report is partial then. The namespaces are deleted in
        any case. Raises KubectlError, LeftoverError."""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        self._version = self._kubectl.version()
        if left := self._kubectl.managed_namespaces():
            raise LeftoverError(
                f"namespaces of a benchmark are there: {', '.join(left)}. If none is under way: "
                f"kubectl delete namespace {' '.join(left)}"
            )
        partial = self._interruptible()
        rows = tuple(self._rows())
        return Report(
            date=date,
            partial=partial,
            machine=self._facts(),
            settings=self._settings(),
            results=rows,
            ratios=results.ratios(rows),
        )

    def _interruptible(self) -> bool:
        with guards.signals_interrupt():
            try:
                self._create()
                self._measure()
                return self._deadline.has_cut
            except KeyboardInterrupt:
                self._say("interrupted: the namespaces are deleted, and a partial report is written")
                self.interrupted = True
                return True
            finally:
                with guards.signals_ignored():
                    self._delete()

    def _delete(self) -> None:
        """Our namespaces, by their label: one of our names that somebody else had is not ours."""
        self._say("deleting the namespaces")
        try:
            if names := self._kubectl.managed_namespaces():
                self._kubectl.delete_namespaces(names)
        except KubectlError as error:
            label = ",".join(f"{key}={value}" for key, value in objects.MANAGED.items())
            self._say(f"not all of it is deleted: {error}. Later: kubectl delete namespace -l {label}")

    def _create(self) -> None:
        names = (PREFIX, *(objects.namespace(scenario) for scenario in possible(self._plan.scenarios)))
        self._say(f"creating namespaces {', '.join(names)}")
        self._kubectl.create(objects.places(self._plan, self._options))
        self._await_places()
        for scenario in self._plan.scenarios:
            if scenario not in SCENARIOS:
                self._lost[scenario] = NO_SUCH_SCENARIO
                continue
            self._kubectl.create(objects.scenario(scenario, self._plan, self._options))
            for kind in objects.ROUTES:
                self._create_routes(scenario, kind)
        for scenario in possible(self._plan.scenarios):
            name = objects.namespace(scenario)
            reason = self._await(name, self._servers) or pods.wrong_way(scenario, self._kubectl.pods(name))
            if reason:
                self._lost[scenario] = reason
                self._say(f"{scenario}: {reason}")

    def _create_routes(self, scenario: Scenario, kind: str) -> None:
        if not (routes := objects.routes(scenario, self._plan, kind)):
            return
        try:
            self._kubectl.create(routes)
        except KubectlError as error:
            self._say(f"{scenario}: no {kind}: {error}")
            for load in self._plan.loads:
                if load.route and load.protocol in objects.ROUTES[kind]:
                    self._reasons[load.case(scenario)] = f"its {kind} was refused: {error}"
                    self._failures[load.case(scenario)] = _MAX_FAILURES

    @property
    def _servers(self) -> int:
        return len({load.placement for load in self._plan.loads})

    def _await_places(self) -> None:
        if reason := self._await(PREFIX, self._plan.nodes):
            raise KubectlError(f"the pods that hold the nodes are not ready: {reason}{_ONE_NODE}")
        for pod in self._kubectl.pods(PREFIX):
            self._nodes[pod["metadata"]["labels"][objects.PLACE]] = pods.node(pod)

    def _await(self, namespace: str, count: int) -> str:
        """Until so many pods are ready; or why they are not."""
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            found = self._kubectl.pods(namespace)
            if sum(map(pods.ready, found)) >= count:
                return ""
            late = [pod for pod in found if not pods.ready(pod)]
            if reason := next(filter(None, map(pods.hopeless, late)), ""):
                return reason
            if time.monotonic() >= deadline:
                states = (f"pod {pod['metadata']['name']}: {pods.waits_for(pod)}" for pod in late)
                return "; ".join(states) or f"it has {len(found)} of {count} pods"
            time.sleep(_POLL_SECONDS)

    def _measure(self) -> None:
        # Each Job warms up by itself.
        runs = [run for run in self._plan.runs() if run.round]
        began, taken = time.monotonic(), 0
        for number, run in enumerate(runs, 1):
            if self._deadline.passed(f"{len(runs) - number + 1} runs are not made"):
                break
            each = (time.monotonic() - began) / taken if taken else self._plan.seconds + _JOB_OVERHEAD
            left = round((len(runs) - number + 1) * each)
            line = f"{left // 60:>3}:{left % 60:02} left  round {run.round}/{self._plan.rounds}"
            taken += self._one(run, number, f"{line}  {run.load!s:<40} {run.scenario:<11}")

    def _one(self, run: Run, number: int, line: str) -> bool:
        """One run, and whether it was made."""
        case = run.load.case(run.scenario)
        if run.scenario in self._lost or self._failures[case] >= _MAX_FAILURES:
            return False
        try:
            found = self._job(run, number)
        except (KubectlError, TaskError) as error:
            found = Finding(failed=str(error))
        if found.machine is not None:
            self._machine = found.machine
        if found.failed or found.round is None:
            self._failures[case] += 1
            self._reasons[case] = found.failed
            self._say(f"{line} not measured: {found.failed}")
            return True
        self._rounds.setdefault(case, []).append(found.round)
        if found.latencies:
            self._latencies.setdefault(case, []).append(distribution.histogram(found.latencies))
        if found.round.rps is None:
            self._reasons[case] = found.wrong
            self._say(f"{line} not counted: {found.wrong}")
        else:
            self._say(f"{line} {found.round.rps:>9,.0f}/s  p99 {found.round.p99_us:>7,.0f} us")
        return True

    def _job(self, run: Run, number: int) -> Finding:
        """Raises KubectlError, TaskError."""
        job = objects.job(run, number, self._plan.seconds, self._options)
        name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
        self._kubectl.create([job])
        try:
            pod = self._await_load(namespace, name)
            if reason := pods.wrong_way(run.scenario, [pod]):
                raise TaskError(reason)
            return finding(self._kubectl.logs(namespace, pod["metadata"]["name"], CONTAINER))
        finally:
            self._delete_job(namespace, name)

    def _delete_job(self, namespace: str, name: str) -> None:
        try:
            self._kubectl.delete_job(namespace, name)
        except KubectlError as error:  # what it found is good; it goes with its namespace at the end
            self._say(f"job {namespace}/{name} is not deleted yet: {error}")

    def _await_load(self, namespace: str, name: str) -> Object:
        deadline = time.monotonic() + _RUN_SECONDS + self._plan.seconds
        while True:
            found = self._kubectl.pods(namespace, f"job-name={name}")
            for pod in found:
                if pods.finished(pod):
                    return pod
                if reason := pods.hopeless(pod):
                    raise TaskError(f"its Job cannot run: {reason}")
            if time.monotonic() >= deadline:
                states = [pods.waits_for(pod) for pod in found]
                raise TaskError(f"its Job did not end in time: {'; '.join(states) or 'it has no pod'}")
            time.sleep(_POLL_SECONDS)

    def _rows(self) -> Iterator[Row]:
        for load in self._plan.loads:
            for scenario in self._plan.scenarios:
                case = load.case(scenario)
                if load.impossible:
                    yield results.not_measured(case, load.impossible)
                elif reason := self._lost.get(scenario):
                    yield results.not_measured(case, reason)
                else:
                    yield self._row(case)

    def _row(self, case: Case) -> Row:
        merged = distribution.merged(self._latencies.get(case, ()))
        found = results.row(case, self._rounds.get(case, ()), histogram=distribution.points(merged))
        if found.not_measured and (reason := self._reasons.get(case)):
            return replace(found, not_measured=reason)
        return found

    def _facts(self) -> Machine:
        where = ", ".join(f"{place} on {node}" for place, node in sorted(self._nodes.items()) if node)
        cluster = f"Kubernetes {self._version}" + (f", {where}" if where else "")
        versions = {
            name: version for name, version in self._machine.versions.items() if name in _IN_THE_CLIENT
        }
        return replace(self._machine, cluster=cluster, versions=versions)

    def _settings(self) -> Settings:
        return Settings(
            command=self._command,
            rounds=self._plan.rounds,
            duration_s=float(self._plan.seconds),
            warm_up_s=1.0,
            quick=self._plan.quick,
            config={
                "images": f"client {self._options.image}, server {self._options.server_image}",
                "services": "called by name and cluster IP in all scenarios; direct is what the cluster does",
                "sidecar": f"namespace label {'='.join(self._options.sidecar_label)}; config as injected",
            },
            not_covered=_NOT_COVERED,
        )


_ONE_NODE = " (on one node only --placement same-node can be measured)"
_NOT_COVERED = (
    "CPU time per request and the mesh's memory: a pod cannot read those of others.",
    "Whether the kernel carried a request on a cluster: see meshd_fast_path_requests_total of its node.",
)
