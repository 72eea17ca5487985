"""Request counts: exact, cumulative in their buckets, and bounded whatever clients send."""

from __future__ import annotations

from meshd.model.wire import LATENCY_BUCKETS
from proxy.telemetry.stats import Counters, RequestStats


def test_equal_labels_share_a_row() -> None:
    stats = RequestStats()
    for seconds in (0.0004, 0.0005, 0.004, 99.0):
        stats.record("ns/web", "r", "c", "ns/client", "GET", 200, "", seconds)
    stats.record("ns/web", "r", "c", "ns/client", "GET", 503, "UF", 0.1)
    ok, failed = stats.snapshot()
    assert (ok.service, ok.route, ok.cluster, ok.source) == ("ns/web", "r", "c", "ns/client")
    assert (ok.method, ok.status, ok.flags, ok.count) == ("GET", 200, "", 4)
    assert abs(ok.seconds - 99.0049) < 1e-9
    assert len(ok.buckets) == len(LATENCY_BUCKETS)
    assert (ok.buckets[0], ok.buckets[LATENCY_BUCKETS.index(0.005)], ok.buckets[-1]) == (2, 3, 3)
    assert (failed.status, failed.flags, failed.count) == (503, "UF", 1)


def test_invented_methods_are_one() -> None:
    stats = RequestStats()
    for method in ("BREW", "get", "X" * 1000):
        stats.record("s", "r", "c", "w", method, 200, "", 0.0)
    (row,) = stats.snapshot()
    assert (row.method, row.count) == ("other", 3)


def test_rows_are_bounded_and_every_request_is_counted() -> None:
    stats = RequestStats(max_rows=10)
    for i in range(1000):
        stats.record("s", f"route-{i}", "c", "w", "GET", 200 if i % 2 else 500, "UH", 0.01)
    rows = stats.snapshot()
    assert len(rows) == 12
    assert sum(row.count for row in rows) == 1000
    other = {row.status: row.count for row in rows if row.route == "other"}
    assert other == {200: 495, 500: 495}
    stats.record("s", "route-0", "c", "w", "GET", 500, "UH", 0.01)
    assert next(row for row in stats.snapshot() if row.route == "route-0").count == 2


def test_counters() -> None:
    counters = Counters()
    counters.add("a")
    counters.add("a", 4)
    seen = counters.snapshot()
    counters.add("b")
    assert seen == {"a": 5}
    assert counters.snapshot() == {"a": 5, "b": 1}
