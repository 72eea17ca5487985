"""The control plane's metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshd.control.server import AdsServer
from meshd.xds.resources import SHORT, ResourceSet


def exposition(resources: ResourceSet, server: AdsServer, certificate_ends: float | None) -> bytes:
    """One scrape. ``certificate_ends``: when that of the listener does, in seconds since 1970."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Control(resources, server, certificate_ends))
    return generate_latest(registry)


class _Control(Collector):
    def __init__(self, resources: ResourceSet, server: AdsServer, certificate_ends: float | None) -> None:
        self._resources = resources
        self._server = server
        self._certificate_ends = certificate_ends

    def collect(self) -> Iterable[Metric]:
        held = GaugeMetricFamily("meshd_control_resources", "Resources that are served.", labels=("type",))
        for url, short in SHORT.items():
            held.add_metric((short,), len(self._resources.of(url)))
        yield held
        streams = GaugeMetricFamily("meshd_control_streams", "Open ADS streams.", labels=("kind",))
        for kind in ("delta", "sotw"):
            streams.add_metric((kind,), sum(each.kind == kind for each in self._server.streams))
        yield streams
        yield GaugeMetricFamily(
            "meshd_control_streams_refusing",
            "Open streams whose client has refused the last response of a type.",
            value=sum(bool(each.rejections) for each in self._server.streams),
        )
        if self._certificate_ends is not None:
            yield GaugeMetricFamily(
                "meshd_control_certificate_expiry_timestamp_seconds",
                "When the listener's certificate ends.",
                value=self._certificate_ends,
            )
        yield CounterMetricFamily(
            "meshd_control_nacks", "Responses that clients refused.", value=self._server.nacks
        )
