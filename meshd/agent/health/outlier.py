"""Which endpoints of a cluster are left out for a time because of how they answer. Pure.

The algorithm is Envoy's (docs: "Outlier detection"; cluster.v3.OutlierDetection) without
split_external_local_origin_errors: a request that got no answer counts as the 503 or 504 that its client was
given. Ejection by latency is ours. Two things differ: always_eject_one_host is on; and as the results come in
reports of several workers, what they did at the same time has no order (``Tally``).
"""

from __future__ import annotations

import enum
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from meshd.agent.health.marks import EndpointAddress
from meshd.model.cluster_policies import Outlier
from meshd.model.outcomes import Run, Tally


class Cause(enum.Enum):
    """Why an endpoint is ejected. Named as in Envoy's OutlierEjectionType."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    CONSECUTIVE_GATEWAY = "consecutive_gateway_failure"
    SUCCESS_RATE = "success_rate"
    LATENCY = "latency"


class Ejection(msgspec.Struct, frozen=True, array_like=True):
    """What put an endpoint out, and until when."""

    cause: Cause
    reason: str
    """For people."""
    began: float
    ends: float
    """It comes back with the first interval that ends after that. By the caller's clock, as ``began``."""
    times: int
    """Its length is so many times the policy's."""


@dataclass(slots=True)
class _Sums:
    """Of an interval; the fields are those of Tally."""

    requests: int = 0
    successes: int = 0
    answers: int = 0
    seconds: float = 0.0

    def add(self, tally: Tally) -> None:
        self.requests += tally.requests
        self.successes += tally.successes
        self.answers += tally.answers
        self.seconds += tally.seconds


@dataclass(slots=True)
class _Monitor:
    """What is remembered of one endpoint."""

    errors: int = 0
    """5xx in a row; likewise ``gateway``: 502, 503 and 504."""
    gateway: int = 0
    interval: _Sums = field(default_factory=_Sums)
    """Of the interval that has not ended."""
    ejection: Ejection | None = None
    times: int = 0
    """The next ejection is longer than one of so many times (Envoy's eject_time_backoff)."""
    returned: float = -math.inf
    """When its last ejection ended."""

    def put_back(self, now: float) -> None:
        self.ejection = None
        self.returned = now
        # Else a few errors more could eject it again by the other count.
        self.errors = self.gateway = 0


@dataclass(slots=True)
class EjectionCounts:
    """What has happened, of all clusters together; only grows."""

    ejections: Counter[Cause] = field(default_factory=Counter)
    overflows: int = 0
    """Endpoints that were to be ejected, had not too many others been."""


class Detector:
    """One cluster's. Times are in seconds by the caller's clock, which does not go back."""

    def __init__(self, policy: Outlier, counts: EjectionCounts) -> None:
        self.policy = policy
        self._counts = counts
        self._monitors: dict[EndpointAddress, _Monitor] = {}

    def set_endpoints(self, endpoints: Iterable[EndpointAddress]) -> None:
        """These are the cluster's endpoints now; what is known of others is forgotten."""
        self._monitors = {each: self._monitors.get(each) or _Monitor() for each in endpoints}

    def endpoints(self) -> Iterable[EndpointAddress]:
        """All that may be ejected."""
        return self._monitors.keys()

    def ejection(self, endpoint: EndpointAddress) -> Ejection | None:
        """None: the endpoint is not ejected."""
        monitor = self._monitors.get(endpoint)
        return None if monitor is None else monitor.ejection

    def ejected(self) -> Iterator[tuple[EndpointAddress, Ejection]]:
        """All that are."""
        for endpoint, monitor in self._monitors.items():
            if monitor.ejection is not None:
                yield endpoint, monitor.ejection

    def restore(self, endpoint: EndpointAddress, ejection: Ejection) -> None:
        """An endpoint is ejected already."""
        monitor = self._monitors.get(endpoint)
        if monitor is not None:
            monitor.ejection, monitor.times = ejection, ejection.times

    def take(self, endpoint: EndpointAddress, tally: Tally, now: float) -> bool:
        """Count what a worker reports. Whether the endpoint is ejected by it."""
        monitor = self._monitors.get(endpoint)
        if monitor is None:
            return False  # it has been removed meanwhile
        monitor.interval.add(tally)
        policy = self.policy
        # As in Envoy, who gives a gateway's error to both counts, that one first.
        monitor.gateway, most_gateway = _continued(monitor.gateway, tally.gateway)
        monitor.errors, most_errors = _continued(monitor.errors, tally.errors)
        if monitor.ejection is not None:
            return False
        if 0 < policy.consecutive_gateway <= most_gateway:
            monitor.gateway = 0
            if self._eject(
                monitor, Cause.CONSECUTIVE_GATEWAY, f"{most_gateway} gateway errors in a row", now
            ):
                return True
        if 0 < policy.consecutive_5xx <= most_errors:
            monitor.errors = 0
            return self._eject(monitor, Cause.CONSECUTIVE_5XX, f"{most_errors} answers of 5xx in a row", now)
        return False

    def end_interval(self, now: float) -> bool:
        """Bring back whose time is over, and judge what has come since the last call. Whether any changed.

        To be called every ``policy.interval`` seconds.
        """
        changed = False
        for monitor in self._monitors.values():
            if monitor.ejection is not None and monitor.ejection.ends <= now:
                monitor.put_back(now)
                changed = True
        changed |= self._judge_success(now)
        changed |= self._judge_latency(now)
        for monitor in self._monitors.values():
            monitor.interval = _Sums()
            if monitor.ejection is None and now - monitor.returned >= self.policy.interval:
                monitor.times = max(0, monitor.times - 1)
        return changed

    def probed_well(self, endpoint: EndpointAddress, now: float) -> bool:
        """A probe has passed: the endpoint is not left out any longer. Whether it was.

        Envoy: successful_active_health_check_uneject_host.
        """
        monitor = self._monitors.get(endpoint)
        if monitor is None or monitor.ejection is None:
            return False
        monitor.put_back(now)
        return True

    # -- what is judged by all endpoints together ----------------------------------------------------

    def _judge_success(self, now: float) -> bool:
        policy = self.policy
        rates = self._comparable(policy.success_rate_factor, _success_rate)
        if not rates:
            return False
        mean = statistics.fmean(rate for _, rate in rates)
        deviation = math.sqrt(statistics.fmean((rate - mean) ** 2 for _, rate in rates))
        least = mean - deviation * policy.success_rate_factor / 1000
        return self._eject_all(
            (
                (monitor, f"{rate:.1f} % of its answers were good, of all endpoints' {mean:.1f} %")
                for monitor, rate in rates
                if rate < least
            ),
            Cause.SUCCESS_RATE,
            now,
        )

    def _judge_latency(self, now: float) -> bool:
        policy = self.policy
        means = self._comparable(policy.latency_factor, _mean_latency)
        if not means:
            return False
        median = statistics.median(mean for _, mean in means)
        most = median * policy.latency_factor / 1000
        return self._eject_all(
            (
                (
                    monitor,
                    f"answered in {1000 * mean:.1f} ms on average, the median is {1000 * median:.1f} ms",
                )
                for monitor, mean in means
                if mean > most
            ),
            Cause.LATENCY,
            now,
        )

    def _comparable(
        self, factor: int, measure: Callable[[_Sums, int], float | None]
    ) -> list[tuple[_Monitor, float]]:
        """Of each endpoint with enough requests, what ``measure`` finds; empty: too few to compare.

        ``factor``: 0 where nothing is to be compared.
        """
        policy = self.policy
        if not factor or len(self._monitors) < policy.success_rate_hosts:
            return []
        found = []
        for monitor in self._monitors.values():
            if monitor.ejection is None:
                value = measure(monitor.interval, max(1, policy.success_rate_requests))
                if value is not None:
                    found.append((monitor, value))
        return found if len(found) >= policy.success_rate_hosts else []

    def _eject_all(self, found: Iterable[tuple[_Monitor, str]], cause: Cause, now: float) -> bool:
        ejected = [monitor for monitor, reason in found if self._eject(monitor, cause, reason, now)]
        return bool(ejected)

    # -- the ejection --------------------------------------------------------------------------------

    def _eject(self, monitor: _Monitor, cause: Cause, reason: str, now: float) -> bool:
        policy = self.policy
        active = sum(1 for _ in self.ejected())
        if active and 100 * (active + 1) > policy.max_ejected_percent * len(self._monitors):
            self._counts.overflows += 1
            return False
        longest = max(policy.max_ejection_time, policy.ejection_time)
        if monitor.times * policy.ejection_time < longest + policy.ejection_time:
            monitor.times += 1
        seconds = min(monitor.times * policy.ejection_time, longest)
        monitor.ejection = Ejection(cause, reason, now, now + seconds, monitor.times)
        self._counts.ejections[cause] += 1
        return True


def _success_rate(sums: _Sums, enough: int) -> float | None:
    return 100 * sums.successes / sums.requests if sums.requests >= enough else None


def _mean_latency(sums: _Sums, enough: int) -> float | None:
    return sums.seconds / sums.answers if sums.answers >= enough else None


def _continued(row: int, run: Run) -> tuple[int, int]:
    """How long a row of errors is after a report, and how long the longest was within it."""
    first = row + run.first
    return (run.last if run.broken else first), max(first, run.most)
