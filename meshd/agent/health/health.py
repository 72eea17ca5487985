"""The health of endpoints as this node sees it: probes, ejections, and what they change in the config."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from meshd import kept_file, log
from meshd.agent.health.cluster_health import ClusterHealth, Transition
from meshd.agent.health.marks import EndpointAddress, Mark, Marks, marked, unmarked
from meshd.agent.health.outlier import Ejection, EjectionCounts
from meshd.agent.health.probe_state import ProbeResult
from meshd.agent.health.prober import EndpointKey, Prober
from meshd.agent.health.probing import Target
from meshd.agent.health.reach import clusters_in_reach
from meshd.datapath.counts.answers import CarriedAnswers
from meshd.model.clusters import Cluster, Health
from meshd.model.outcomes import EndpointTally
from meshd.model.snapshot import Snapshot

_logger = logging.getLogger("meshd.agent.health")

HEARING_SECONDS = 0.01
"""The kernel's bad answers are taken at once, but no more often than that."""


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """A marked endpoint, for the next agent. Times are of CLOCK_MONOTONIC, which is the same for that one."""

    cluster: str
    address: str
    port: int
    mark: Mark
    ejection: Ejection | None


class EndpointHealth:
    """One for each node. All its methods are called in the event loop."""

    def __init__(self, path: Path, answers: CarriedAnswers | None = None) -> None:
        """``path``: where the marks are kept for the next agent.

        ``answers``: to what the kernel carries, taken over; None: it carries nothing.
        """
        self._path = path
        self._answers = answers
        self._written: tuple[_Kept, ...] | None = None
        """By this agent; None: nothing yet."""
        self._clusters: dict[str, ClusterHealth] = {}
        self._followed = Snapshot()
        self._namespaces: frozenset[str] = frozenset()
        self._policies: dict[str, Cluster] = {}
        """Of its clusters, those that have any for us."""
        self._intervals: dict[str, asyncio.TimerHandle] = {}
        self._prober = Prober(self._probed)
        self._restored: dict[EndpointKey, Ejection] = {}
        self.changed = asyncio.Event()
        """``marked`` gives another snapshot than before. Whoever acts on it clears it."""
        self.probes: Counter[str] = Counter()
        """Since the agent's start, by result: ``passed`` or ``failed``."""
        self.ejections = EjectionCounts()
        """Likewise."""
        self.probed_endpoints = 0

    # -- the config ----------------------------------------------------------------------------------

    def restore(self, kept: Snapshot) -> Snapshot:
        """What the control plane had sent when an earlier agent kept its config."""
        try:
            rows = msgspec.msgpack.decode(self._path.read_bytes(), type=tuple[_Kept, ...])
        except FileNotFoundError:
            return kept
        except (OSError, msgspec.MsgspecError) as error:
            log.event(_logger, logging.WARNING, "kept health is unreadable", file=self._path, reason=error)
            return kept
        marks: dict[str, dict[EndpointAddress, Mark]] = {}
        for row in rows:
            marks.setdefault(row.cluster, {})[row.address, row.port] = row.mark
            if row.ejection is not None:
                self._restored[row.cluster, row.address, row.port] = row.ejection
        return unmarked(kept, marks)

    def follow(self, received: Snapshot, in_force: Snapshot, namespaces: Collection[str]) -> None:
        """Take the config of now.

        ``received``: as the control plane has it. ``in_force``: what workers and kernel go by so far.
        ``namespaces``: of this node's workloads: nobody is probed for others.
        """
        now = time.monotonic()
        last, self._followed = self._followed, received
        callers, self._namespaces = self._namespaces, frozenset(namespaces)
        others = set(last.clusters.others(received.clusters))
        for name in others:
            self._policies.pop(name, None)
            if (cluster := received.clusters.get(name)) is not None and _has_policy(cluster):
                self._policies[name] = cluster
        others.update(last.endpoints.others(received.endpoints))
        gone = self._clusters.keys() & others - self._policies.keys()
        for name in gone:
            del self._clusters[name]
        touched = others & self._policies.keys()
        for name in sorted(touched):
            endpoints = _healthy(received, name)
            # A cluster that is new here starts with what the control plane says. Later on, who comes is
            # asked first, and who was left out so far stays so until he is (after an agent's restart).
            held = endpoints - _healthy(in_force, name) if name in in_force.endpoints else frozenset()
            health = self._clusters.setdefault(name, ClusterHealth(self.ejections))
            health.follow(self._policies[name], endpoints, held, now)
        as_before = callers == self._namespaces and _leads_as(last, received)
        if as_before and not (touched or gone or self._restored):
            return
        reach = clusters_in_reach(received, self._namespaces) if self._policies else frozenset()
        for key, ejection in self._restored.items():
            if key[0] in self._clusters:
                self._clusters[key[0]].restore(key[1:], ejection)
        self._restored.clear()
        if self._answers is not None:
            self._answers.follow(key for name in self._policies for key in self._judged(name))
        targets = {key: each for name in reach for key, each in self._targets(received, name)}
        self._prober.follow(targets)
        self.probed_endpoints = len(targets)
        self._set_intervals()

    def marked(self, received: Snapshot) -> Snapshot:
        """The snapshot with what we know of its endpoints."""
        return marked(received, self.marks())

    def marks(self) -> Marks:
        """Who is left out, by cluster and endpoint."""
        return {name: health.marks for name, health in self._clusters.items() if health.marks}

    async def keep(self) -> None:
        """Keep the marks for the next agent. To be called before a config that they are in is kept."""
        rows = tuple(self._rows())
        if rows != self._written:
            await asyncio.to_thread(self._write, rows)

    # -- events --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Probe, and hear of answers, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._prober.run())
                if self._answers is not None:
                    tasks.create_task(self._hear(self._answers))
        finally:
            for timer in self._intervals.values():
                timer.cancel()

    def close(self) -> None:
        """Hear of no answers any more."""
        if self._answers is not None:
            self._answers.close()

    def take(self, reports: Iterable[EndpointTally]) -> None:
        """A worker tells how requests ended."""
        reports = tuple(reports)
        # Between the errors that the worker tells of the kernel may have carried good answers.
        failing = (each for each in reports if each.tally.errors.most)
        self._ask_kernel((each.cluster, each.address, each.port) for each in failing)
        self._take(reports)

    async def _hear(self, answers: CarriedAnswers) -> None:
        loop = asyncio.get_running_loop()
        while True:
            told = asyncio.Event()
            loop.add_reader(answers.fd, told.set)
            try:
                await told.wait()
            finally:
                loop.remove_reader(answers.fd)
            self._ask_kernel()
            await asyncio.sleep(HEARING_SECONDS)

    def _ask_kernel(self, endpoints: Iterable[EndpointKey] = ()) -> None:
        """Take the bad answers that it carried, and the good ones of these endpoints."""
        if self._answers is not None:
            self._take(self._answers.news(endpoints))

    def _take(self, reports: Iterable[EndpointTally]) -> None:
        now = time.monotonic()
        for each in reports:
            health = self._clusters.get(each.cluster)
            if health is not None:
                transition = health.reported((each.address, each.port), each.tally, now)
                self._note(each.cluster, transition)

    def _probed(self, key: EndpointKey, result: ProbeResult) -> None:
        self.probes["failed" if result.failure else "passed"] += 1
        health = self._clusters.get(key[0])
        if health is not None:
            self._note(key[0], health.probed(key[1:], result, time.monotonic()))

    def _interval_ended(self, name: str) -> None:
        del self._intervals[name]
        self._ask_kernel(self._judged(name))
        health = self._clusters.get(name)
        if health is not None:
            for transition in health.end_interval(time.monotonic()):
                self._note(name, transition)
        self._set_intervals()

    def _note(self, cluster: str, transition: Transition | None) -> None:
        if transition is None:
            return
        (address, port), mark = transition
        endpoint = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        if mark is None:
            log.event(_logger, logging.INFO, "endpoint taken back", cluster=cluster, endpoint=endpoint)
        else:
            log.event(
                _logger,
                logging.WARNING,
                "endpoint left out",
                cluster=cluster,
                endpoint=endpoint,
                by=mark.by.value,
                reason=mark.reason,
            )
        self.changed.set()

    # -- inside --------------------------------------------------------------------------------------

    def _judged(self, cluster: str) -> Iterable[EndpointKey]:
        """The endpoints that may be ejected by their answers."""
        health = self._clusters.get(cluster)
        if health is None or health.detector is None:
            return ()
        return [(cluster, *at) for at in health.detector.endpoints()]

    def _targets(self, received: Snapshot, cluster: str) -> Iterable[tuple[EndpointKey, tuple[Target, bool]]]:
        health, found = self._clusters.get(cluster), received.endpoints.get(cluster)
        check = self._policies[cluster].health_check if health is not None else None
        if health is None or found is None or check is None:
            return
        for each in found.endpoints:
            at = each.address, each.port
            if at in health.probes:
                target = Target(cluster, each.address, each.health_port or check.port or each.port, check)
                yield (cluster, *at), (target, at in health.marks)

    def _set_intervals(self) -> None:
        loop = asyncio.get_running_loop()
        for name, health in self._clusters.items():
            if health.detector is not None and name not in self._intervals:
                seconds = health.detector.policy.interval
                self._intervals[name] = loop.call_later(seconds, self._interval_ended, name)

    def _rows(self) -> Iterable[_Kept]:
        for name, health in self._clusters.items():
            for at, mark in health.marks.items():
                ejection = health.detector.ejection(at) if health.detector is not None else None
                yield _Kept(name, *at, mark, ejection)

    def _write(self, rows: tuple[_Kept, ...]) -> None:
        try:
            kept_file.replace(self._path, msgspec.msgpack.encode(rows))
        except OSError as error:
            log.event(_logger, logging.WARNING, "health not kept", file=self._path, reason=error)
        else:
            self._written = rows


def _has_policy(cluster: Cluster) -> bool:
    return cluster.health_check is not None or cluster.outlier is not None


def _leads_as(last: Snapshot, now: Snapshot) -> bool:
    """Whether listeners and routes, and so what they lead to, are the very same."""
    return last.listeners is now.listeners and last.route_configs is now.route_configs


def _healthy(snapshot: Snapshot, cluster: str) -> frozenset[EndpointAddress]:
    found = snapshot.endpoints.get(cluster)
    return frozenset(
        (e.address, e.port) for e in (found.endpoints if found else ()) if e.health is Health.HEALTHY
    )
