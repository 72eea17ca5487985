"""Which endpoints of one cluster are left out, by their probes and by how they answer. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from meshd.agent.health.marks import By, EndpointAddress, Mark
from meshd.agent.health.outlier import Detector, Ejection, EjectionCounts
from meshd.agent.health.probe_state import ProbeResult, ProbeState, Verdict
from meshd.model.clusters import Cluster
from meshd.model.outcomes import Tally

NOT_PROBED = "not probed yet"


class Transition(NamedTuple):
    """An endpoint is left out, or is not any longer (``mark`` is None)."""

    at: EndpointAddress
    mark: Mark | None


class ClusterHealth:
    """Of the endpoints that the control plane calls healthy. Times are of one clock that does not go back."""

    def __init__(self, counts: EjectionCounts) -> None:
        self._counts = counts
        self.marks: dict[EndpointAddress, Mark] = {}
        self.detector: Detector | None = None
        self.probes: dict[EndpointAddress, ProbeState] = {}
        """Of all, if they are to be probed."""
        self._cluster: Cluster

    def follow(
        self,
        cluster: Cluster,
        endpoints: Collection[EndpointAddress],
        held: Collection[EndpointAddress],
        now: float,
    ) -> None:
        """Take the config of now. ``held``: those that get no request before a probe has passed, if new."""
        self._cluster = cluster
        known = self.probes
        self.probes = {}
        if cluster.health_check is not None:
            self.probes = {at: known.get(at) or ProbeState() for at in endpoints}
        if cluster.outlier is None:
            self.detector = None
        else:
            self.detector = self.detector or Detector(cluster.outlier, self._counts)
            self.detector.policy = cluster.outlier
            self.detector.set_endpoints(endpoints)
        for at in held:
            if at in self.probes and at not in known:
                self.marks[at] = Mark(By.PROBE, NOT_PROBED, now)
        for at in self.marks.keys() - set(endpoints):
            del self.marks[at]
        for at in tuple(self.marks):
            self._renew(at, now)

    def restore(self, at: EndpointAddress, ejection: Ejection) -> None:
        """An endpoint was ejected when an earlier agent ended; after ``follow``."""
        if self.detector is not None:
            self.detector.restore(at, ejection)
            self._renew(at, ejection.began)

    def probed(self, at: EndpointAddress, result: ProbeResult, now: float) -> Transition | None:
        """A probe has ended."""
        state, check = self.probes.get(at), self._cluster.health_check
        if state is None or check is None:
            return None
        state.take(result, check)
        if state.verdict is Verdict.PASSED and not result.failure and self.detector is not None:
            self.detector.probed_well(at, now)
        return self._renew(at, now)

    def reported(self, at: EndpointAddress, tally: Tally, now: float) -> Transition | None:
        """A worker tells how requests ended."""
        if self.detector is None or not self.detector.take(at, tally, now):
            return None
        return self._renew(at, now)

    def end_interval(self, now: float) -> Iterator[Transition]:
        """To be called as Detector.end_interval."""
        detector = self.detector
        if detector is None:
            return
        out = {at for at, _ in detector.ejected()}
        if detector.end_interval(now):
            for at in out | {at for at, _ in detector.ejected()}:
                transition = self._renew(at, now)
                if transition is not None:
                    yield transition

    def _renew(self, at: EndpointAddress, now: float) -> Transition | None:
        old, new = self.marks.get(at), self._mark(at, now)
        if new is None:
            self.marks.pop(at, None)
        else:
            self.marks[at] = new
        return Transition(at, new) if (old is None) != (new is None) else None

    def _mark(self, at: EndpointAddress, now: float) -> Mark | None:
        old = self.marks.get(at)
        state = self.probes.get(at)
        if state is not None:
            if state.verdict is Verdict.PENDING and old is not None and old.by is By.PROBE:
                return old
            if state.verdict is Verdict.FAILED:
                since = old.since if old is not None and old.by is By.PROBE else now
                return Mark(By.PROBE, state.failure or (old.reason if old is not None else ""), since)
        ejection = self.detector.ejection(at) if self.detector is not None else None
        if ejection is None:
            return None
        return Mark(By.EJECTION, f"{ejection.reason} ({ejection.cause.value})", ejection.began)
