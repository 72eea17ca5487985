"""The metrics of TCP connections that the proxy relays: Istio's, under our names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, Metric, SummaryMetricFamily

from meshd.agent.totals import TcpKey, TcpTotal

_LABELS = ("service", "route", "cluster", "source")


def tcp_connections(totals: Mapping[TcpKey, TcpTotal]) -> Iterable[Metric]:
    """All families."""
    opened = CounterMetricFamily("meshd_tcp_connections_opened", "TCP connections routed.", labels=_LABELS)
    closed = CounterMetricFamily(
        "meshd_tcp_connections_closed",
        "Of those, the ones that have ended.",
        labels=(*_LABELS, "response_flags"),
    )
    received = CounterMetricFamily("meshd_tcp_received_bytes", "Bytes from their clients.", labels=_LABELS)
    sent = CounterMetricFamily("meshd_tcp_sent_bytes", "Bytes to their clients.", labels=_LABELS)
    lasted = SummaryMetricFamily(
        "meshd_tcp_connection_duration_seconds", "How long those that have ended lasted.", labels=_LABELS
    )
    for key, total in totals.items():
        opened.add_metric(key, total.opened)
        received.add_metric(key, total.received)
        sent.add_metric(key, total.sent)
        for flags, count in total.closed.items():
            closed.add_metric((*key, flags), count)
        lasted.add_metric(key, total.closed.total(), total.seconds)
    return opened, closed, received, sent, lasted
