from __future__ import annotations

from meshd.agent.totals import RequestKey, Totals
from meshd.model.wire import LATENCY_BUCKETS, RequestCounts, Stats

KEY = RequestKey("default/web:80", "default/web/0", "default/web:80", "default/client", "GET", 200, "")


def _stats(pid: int, count: int, connections: int, active: float = 0) -> Stats:
    row = RequestCounts(
        service=KEY[0],
        route=KEY[1],
        cluster=KEY[2],
        source=KEY[3],
        method=KEY[4],
        status=KEY[5],
        flags=KEY[6],
        count=count,
        seconds=count * 0.5,
        buckets=(count,) * len(LATENCY_BUCKETS),
    )
    return Stats(
        request=1,
        pid=pid,
        generation=1,
        requests=(row,),
        counters={"downstream_connections_total": connections},
        gauges={"downstream_connections": active},
    )


def test_workers_are_summed() -> None:
    totals = Totals()
    totals.update([_stats(1, 10, 2, 1.0), _stats(2, 5, 1, 2.0)])
    total = totals.requests()[KEY]
    assert (total.count, total.seconds, total.buckets) == (15, 7.5, [15] * len(LATENCY_BUCKETS))
    assert totals.counters() == {"downstream_connections_total": 3}
    assert totals.gauges() == {"downstream_connections": 3.0}


def test_a_newer_report_replaces_the_older_one() -> None:
    totals = Totals()
    totals.update([_stats(1, 10, 2)])
    totals.update([_stats(1, 11, 2)])
    assert totals.requests()[KEY].count == 11


def test_what_an_ended_worker_counted_stays_and_its_gauges_go() -> None:
    totals = Totals()
    totals.update([_stats(1, 10, 2, 7.0), _stats(2, 5, 1)])
    totals.keep_only([2, 3])
    totals.update([_stats(2, 6, 1), _stats(3, 1, 1)])
    assert totals.requests()[KEY].count == 17
    assert totals.counters() == {"downstream_connections_total": 4}
    assert totals.gauges() == {"downstream_connections": 0.0}


def test_asking_changes_nothing() -> None:
    totals = Totals()
    totals.update([_stats(1, 10, 2)])
    totals.keep_only([])
    for _ in range(3):
        totals.requests()[KEY].add(1, 1.0, [1] * len(LATENCY_BUCKETS))
        assert totals.requests()[KEY].count == 10
