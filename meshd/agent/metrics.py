"""The node's metrics in Prometheus' text format, from the agent's state and the workers' sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.agent.tcp_metrics import tcp_connections
from meshd.agent.totals import RequestKey, RequestTotal, Totals
from meshd.agent.views import requests_by_service
from meshd.model.view import DemandView, HealthView, StatusView
from meshd.model.wire import LATENCY_BUCKETS

_REQUEST_LABELS = ("service", "route", "cluster", "source", "method", "code", "response_flags", "grpc_status")
_DURATION_LABELS = ("service", "route", "cluster")


def exposition(status: StatusView, totals: Totals, upcalls: Mapping[tuple[str, str], int]) -> bytes:
    """One scrape of the node. ``upcalls``: by service and reason."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Node(status, totals, upcalls))
    return generate_latest(registry)


class _Node(Collector):
    def __init__(self, status: StatusView, totals: Totals, upcalls: Mapping[tuple[str, str], int]) -> None:
        self._status = status
        self._totals = totals
        self._upcalls = upcalls

    def collect(self) -> Iterable[Metric]:
        requests = self._totals.requests()
        yield _requests(requests)
        yield _durations(requests)
        yield from tcp_connections(self._totals.tcp())
        yield from _fast_path(self._totals.kernel, self._upcalls)
        for name, value in sorted(self._totals.counters().items()):
            counter = CounterMetricFamily(f"meshd_proxy_{name}", f"Proxy workers: {name.replace('_', ' ')}.")
            counter.add_metric((), value)
            yield counter
        for name, number in sorted(self._totals.gauges().items()):
            yield GaugeMetricFamily(
                f"meshd_proxy_{name}", f"Proxy workers: {name.replace('_', ' ')}.", value=number
            )
        yield from _capture(self._status)
        yield from _health(self._status.health)
        yield from _demand(self._status.demand)
        yield _loads(self._status.loads)
        yield from _control(self._status)
        yield from _processes(self._status)


def _requests(requests: Mapping[RequestKey, RequestTotal]) -> Metric:
    family = CounterMetricFamily("meshd_requests", "Requests answered.", labels=_REQUEST_LABELS)
    for key, total in requests.items():
        family.add_metric(tuple(map(str, key)), total.count)
    return family


def _durations(requests: Mapping[RequestKey, RequestTotal]) -> Metric:
    family = HistogramMetricFamily(
        "meshd_request_duration_seconds",
        "From a request's first byte to its answer's last.",
        labels=_DURATION_LABELS,
    )
    merged: dict[tuple[str, str, str], RequestTotal] = {}
    for key, total in requests.items():
        merged.setdefault(key[:3], RequestTotal()).add(total.count, total.seconds, total.buckets)
    for labels, total in merged.items():
        buckets = [(str(bound), float(n)) for bound, n in zip(LATENCY_BUCKETS, total.buckets, strict=True)]
        family.add_metric(labels, [*buckets, ("+Inf", float(total.count))], total.seconds)
    return family


def _fast_path(
    carried: Mapping[RequestKey, RequestTotal], upcalls: Mapping[tuple[str, str], int]
) -> Iterable[Metric]:
    requests = CounterMetricFamily(
        "meshd_fast_path_requests",
        "Of the requests answered, those that the kernel carried.",
        labels=("service",),
    )
    for service, count in requests_by_service(carried).items():
        requests.add_metric((service,), count)
    yield requests
    passed_up = CounterMetricFamily(
        "meshd_upcalls",
        "Messages of clients that the kernel passed up to the proxy.",
        labels=("service", "reason"),
    )
    for labels, count in upcalls.items():
        passed_up.add_metric(labels, count)
    yield passed_up


def _capture(status: StatusView) -> Iterable[Metric]:
    capture = CounterMetricFamily(
        "meshd_capture", "Connections to services, by what the kernel did.", labels=("result",)
    )
    for result, count in sorted(status.capture.counters.items()):
        capture.add_metric((result,), count)
    yield capture
    yield GaugeMetricFamily("meshd_flows", "Captured connections that are open.", value=status.capture.flows)
    fast_path = GaugeMetricFamily(
        "meshd_fast_path_info", "The fast path's mode, always 1.", labels=("mode", "reason")
    )
    fast_path.add_metric((status.capture.fast_path, status.capture.fast_path_reason), 1)
    yield fast_path


def _health(health: HealthView) -> Iterable[Metric]:
    yield GaugeMetricFamily("meshd_probed_endpoints", "Endpoints that are probed.", value=health.probed)
    probes = CounterMetricFamily("meshd_probes", "Probes of endpoints.", labels=("result",))
    for result, count in sorted(health.probes.items()):
        probes.add_metric((result,), count)
    yield probes
    ejections = CounterMetricFamily(
        "meshd_endpoint_ejections", "Endpoints ejected as outliers.", labels=("cause",)
    )
    for cause, count in sorted(health.ejections.items()):
        ejections.add_metric((cause,), count)
    yield ejections
    yield CounterMetricFamily(
        "meshd_endpoint_ejection_overflows",
        "Endpoints not ejected because too many others were.",
        value=health.overflows,
    )
    yield GaugeMetricFamily(
        "meshd_endpoints_left_out", "Endpoints left out by probe or ejection.", value=health.left_out
    )


def _demand(demand: DemandView) -> Iterable[Metric]:
    services = GaugeMetricFamily(
        "meshd_subscribed_services",
        "Service ports by what the node holds of them: only where they are called, or all.",
        labels=("state",),
    )
    services.add_metric(("known",), demand.known - demand.used)
    services.add_metric(("used",), demand.used)
    services.add_metric(("asked",), demand.waiting)
    yield services
    yield CounterMetricFamily("meshd_demands", "Services that were asked for.", value=demand.asked)
    took = HistogramMetricFamily(
        "meshd_demand_seconds", "From a service's demand until its config was in force on the whole node."
    )
    buckets = [(str(bound), float(n)) for bound, n in zip(LATENCY_BUCKETS, demand.buckets, strict=True)]
    took.add_metric((), [*buckets, ("+Inf", float(demand.fulfilled))], demand.seconds)
    yield took


def _loads(loads: Mapping[str, Mapping[str, int]]) -> Metric:
    family = GaugeMetricFamily(
        "meshd_cluster_load",
        "What is out from the node to a cluster that has limits.",
        labels=("cluster", "resource"),
    )
    for cluster, counts in sorted(loads.items()):
        for resource, count in counts.items():
            family.add_metric((cluster, resource), count)
    return family


def _control(status: StatusView) -> Iterable[Metric]:
    control = status.control
    yield GaugeMetricFamily(
        "meshd_control_connected", "Whether the stream to the control plane is up.", value=control.connected
    )
    version = GaugeMetricFamily(
        "meshd_xds_version_info",
        "The control plane's name for its last config, always 1.",
        labels=("version",),
    )
    version.add_metric((control.version,), 1)
    yield version
    yield CounterMetricFamily("meshd_xds_nacks", "xDS resources refused.", value=control.nacks)
    yield GaugeMetricFamily(
        "meshd_xds_refused", "xDS resources that are refused now.", value=len(control.refused)
    )
    yield GaugeMetricFamily(
        "meshd_config_generation", "Of the snapshot that is in force.", value=status.generation
    )
    yield GaugeMetricFamily("meshd_services", "Service ports in the snapshot.", value=status.services)
    yield GaugeMetricFamily("meshd_workloads", "Enrolled workloads.", value=status.workloads)


def _processes(status: StatusView) -> Iterable[Metric]:
    info = GaugeMetricFamily("meshd_info", "The agent, always 1.", labels=("version", "node"))
    info.add_metric((status.version, status.node), 1)
    yield info
    up = GaugeMetricFamily("meshd_worker_up", "Whether the worker serves.", labels=("worker",))
    restarts = CounterMetricFamily("meshd_worker_restarts", "Restarts of the worker.", labels=("worker",))
    resident = GaugeMetricFamily(
        "meshd_resident_memory_bytes", "Resident size of meshd's processes.", labels=("process",)
    )
    resident.add_metric(("agent",), status.rss_bytes)
    for worker in status.workers:
        index = str(worker.worker)
        up.add_metric((index,), worker.state == "serving")
        restarts.add_metric((index,), worker.restarts)
        resident.add_metric((f"worker-{index}",), worker.rss_bytes)
    yield from (up, restarts, resident)
