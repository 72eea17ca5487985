"""What bench/ makes of its runs."""

from __future__ import annotations

from bench import fast_path_report, report, slow_path_report
from bench.fast_path_report import ACROSS, LARGE, MANY, SCALE, SINGLE, SINGLE_APART
from bench.load import Run


def runs(*throughputs: float, p50: float = 100.0, cpu: float = 20.0) -> list[Run]:
    return [Run(t, p50, 2 * p50, cpu, steal=0.5) for t in throughputs]


SCENARIOS = ("c=1", "c=16", "c=64", "c=64 distinct")
RESULTS = {
    "direct": {c: runs(90.0, 100.0, 300.0, cpu=0.0) for c in SCENARIOS},
    "meshd": {c: runs(20.0, 30.0, 10.0, p50=90.0) for c in SCENARIOS},
    "one Envoy": {c: runs(20.0, 20.0, 20.0) for c in SCENARIOS},
    "pair of Envoys": {c: runs(10.0, 10.0, 10.0, cpu=50.0) for c in SCENARIOS},
}


def test_ratios_are_medians_within_rounds() -> None:
    found = report.ratios(RESULTS, slow_path_report.COMPARISONS)
    assert found == {
        "c=64 throughput, of one Envoy's (goal: 0.9)": 1.0,
        "c=64 throughput, of a pair's (goal: 2)": 2.0,
        "c=64 distinct heads throughput, of one Envoy's": 1.0,
        "c=1 p50, of one Envoy's (goal: at most 1)": 0.9,
        "c=64 CPU time a request, of one Envoy's": 1.0,
        "c=64 CPU time a request, of a pair's": 0.4,
        "c=64 distinct heads CPU time a request, of one Envoy's": 1.0,
    }


def test_medians_and_table() -> None:
    direct = report.medians(RESULTS)["direct"]["c=16"]
    assert (direct["requests_per_second"], direct["requests_per_second_min"]) == (100.0, 90.0)
    table = slow_path_report.markdown(RESULTS, {"direct": 0, "meshd": 44_000_000})
    assert "| direct | 100 us | 100 | 100 | 100 | - | - | - | 0.5% |" in table
    assert "| meshd | 90 us | 20 | 20 | 20 | 20 us | 20 us | 44 MB | 0.5% |" in table
    assert "- c=64 throughput, of a pair's (goal: 2): **2.00**" in table


def carried(*throughputs: float) -> list[Run]:
    return [Run(t, 40.0, 80.0, 0.1, steal=0.5, carried=99.9) for t in throughputs]


WAYS = (MANY, SINGLE, SINGLE_APART, LARGE)
FAST = {
    "direct": {scenario: runs(100.0, 200.0, p50=50.0, cpu=0.0) for scenario in (*WAYS, ACROSS)},
    "meshd": {scenario: carried(150.0, 300.0) for scenario in (*WAYS, ACROSS)},
    "pair of Envoys": {scenario: runs(10.0, 10.0) for scenario in WAYS},
    "one of each": {SCALE: carried(100.0, 100.0)},
    "loaded": {SCALE: carried(95.0, 95.0)},
}


def test_fast_path_table_has_the_ways_of_each_scenario() -> None:
    found = report.ratios(FAST, fast_path_report.COMPARISONS)
    assert list(found.values()) == [1.5, 22.5, 0.8, 0.8, 1.5, 1.5, 0.95]
    table = fast_path_report.markdown(FAST)
    assert "| c=64 | direct | 150 | 100 to 200 | 50 us | 100 us | - | - | 0.5% |" in table
    assert "| c=64, scale | loaded | 95 | 95 to 95 | 40 us | 80 us | 99.9% | 0.1 us | 0.5% |" in table
    assert "| c=64, two nodes | pair of Envoys" not in table
    assert "Not the fast path" not in table


def test_fast_path_table_says_when_it_was_not_the_fast_path() -> None:
    slow = FAST | {"meshd": FAST["meshd"] | {LARGE: runs(1.0, 1.0)}}
    assert "carried too few requests: meshd (c=4, 1 MB: 0.0%)\n" in fast_path_report.markdown(slow)


def test_document_has_every_run() -> None:
    document = report.document(
        RESULTS, slow_path_report.COMPARISONS, {"rounds": 3}, {"resident_bytes": {"meshd": 1}}
    )
    assert document["resident_bytes"] == {"meshd": 1}
    recorded = document["runs"]
    assert isinstance(recorded, dict)
    assert recorded["meshd"]["c=64"][1]["requests_per_second"] == 30.0
