"""Reports of ``meshd bench`` of every shape: whole, partial, with errors, with next to nothing."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from meshd.bench.results import Memory, Report, Round, not_measured, row
from tests.support import bench_sample
from tests.support.bench_sample import case, measured, report


def huge() -> Report:
    """From nanoseconds to minutes, from one answer to millions."""
    slow = Round(round=1, rps=0.02, p50_us=4e7, p90_us=5e7, p99_us=6e7, p999_us=6e7, max_us=6.1e7)
    fast = Round(round=1, rps=3e6, p50_us=0.4, p90_us=0.5, p99_us=0.9, p999_us=2.0, max_us=3.0)
    one = Round(round=1, rps=1e3, p50_us=5.0, p90_us=5.0, p99_us=5.0, p999_us=5.0, max_us=5.0)
    return report(row(case("direct"), [one]), row(case("sidecar"), [slow]), row(case("meshd-fast"), [fast]))


def failed() -> Report:
    """One scenario has errors in one round, one in all, one was not run."""
    some = [bench_sample.one_round(case("direct"), n, 1.0) for n in (1, 2)]
    rows = (
        row(case("direct"), [some[0], replace(some[1], errors=3)]),
        row(case("sidecar"), [replace(one, errors=5) for one in some]),
        not_measured(case("meshd-fast"), "no agent came up: <bpf> & co | see the log"),
    )
    return report(*rows, partial=True)


def without_histograms() -> Report:
    quick = bench_sample.quick()
    rows = tuple(replace(one, histogram=(), cpu_by_party={}, mesh_rss_mb=None) for one in quick.results)
    return replace(quick, results=rows)


REPORTS: dict[str, Callable[[], Report]] = {
    "full": bench_sample.full,
    "quick": bench_sample.quick,
    "nothing": lambda: report(partial=True),
    "only direct": lambda: report(measured(case("direct"))),
    "only meshd": lambda: report(measured(case("meshd-fast"))),
    "one rate": lambda: report(measured(case("sidecar", rate=1000.0))),
    "only memory": lambda: report(memory=(Memory(scenario="sidecar", pods=1, rss_mb=67.0),)),
    "huge ranges": huge,
    "errors": failed,
    "without histograms": without_histograms,
}
