"""The schema of a benchmark's report, and what is computed from rounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshd.bench import results
from meshd.bench.results import FIGURES, Report, ResultsError, Round, decode, encode, ratios, row
from tests.support import bench_sample
from tests.support.bench_sample import case, report

KEPT = Path(__file__).parent / "data" / "report.json"
"""A report as the first version wrote it. It must stay readable as long as its schema is ours."""


def rounds(*throughputs: float, **more: object) -> list[Round]:
    return [
        msgspec.convert({"round": i, "rps": rps, "p99_us": 1000 / rps, **more}, Round)
        for i, rps in enumerate(throughputs, 1)
    ]


def test_a_row_is_its_rounds_medians_and_ranges() -> None:
    found = row(case("direct"), rounds(10.0, 40.0, 20.0), mesh_rss_mb=5.0)
    assert (found.rps, found.p99_us, found.mesh_rss_mb) == (20.0, 50.0, 5.0)
    assert found.spread == {"rps": (10.0, 40.0), "p99_us": (25.0, 100.0)}
    assert found.p50_us is None, "a figure that no round has"


def test_a_round_with_errors_is_in_no_figure() -> None:
    found = row(case("direct"), [*rounds(10.0, 20.0), Round(round=3, rps=9e9, errors=7)])
    assert (found.rps, found.spread["rps"], found.errors) == (15.0, (10.0, 20.0), 7)


def test_a_row_without_a_good_round_says_so() -> None:
    failed = row(case("direct"), rounds(10.0, 20.0, errors=3))
    assert failed.not_measured == "6 requests failed, in every round"
    assert {failed.figure(name) for name in FIGURES} == {None}
    assert row(case("direct"), []).not_measured == "no round was finished"


def test_a_noisy_round_is_marked_and_counts() -> None:
    assert row(case("direct"), rounds(10.0, 30.0, noisy=True)).rps == 20.0


def test_cpu_by_party_has_each_partys_median() -> None:
    found = row(
        case("direct"),
        [
            Round(round=1, cpu_by_party={"softirq": 1.0, "client": 5.0}),
            Round(round=2, cpu_by_party={"client": 7.0}),
        ],
    )
    assert found.cpu_by_party == {"client": 6.0, "softirq": 1.0}
    assert list(found.cpu_by_party) == ["client", "softirq"], "in the order of PARTIES"


def test_ratios_are_medians_within_rounds() -> None:
    """The machine was three times as fast in the last round: that cancels."""
    found = ratios(
        [
            row(case("direct"), rounds(100.0, 200.0, 300.0)),
            row(case("meshd-fast"), rounds(150.0, 340.0, 450.0)),
        ]
    )
    assert [(r.scenario, r.to, r.figure, r.value, r.rounds) for r in found] == [
        ("meshd-fast", "direct", "rps", 1.5, 3),
        ("meshd-fast", "direct", "p99_us", pytest.approx(1 / 1.5), 3),
    ]
    assert found[0].spread == (1.5, 1.7)


def test_ratios_skip_rounds_that_one_side_lacks_or_failed() -> None:
    direct = row(case("direct"), [*rounds(100.0, 100.0), Round(round=3, rps=1.0, errors=1)])
    fast = row(case("meshd-fast"), rounds(150.0, 170.0, 900.0, 900.0))
    assert [(r.value, r.rounds) for r in ratios([direct, fast]) if r.figure == "rps"] == [(1.6, 2)]


def test_ratios_are_between_equal_loads_only() -> None:
    others = (case("direct", connections=1), case("direct", "two-nodes"), case("direct", route=False))
    rows = [row(one, rounds(1.0)) for one in (*others, case("meshd-fast"))]
    assert ratios(rows) == ()


def test_at_a_rate_throughput_is_no_figure_to_compare() -> None:
    rows = [row(case(name, rate=10.0), rounds(10.0)) for name in ("direct", "sidecar")]
    assert [r.figure for r in ratios(rows)] == ["p99_us"]


def test_a_base_of_zero_has_no_ratio() -> None:
    rows = [row(case("direct"), [Round(round=1, rps=0.0)]), row(case("meshd-fast"), rounds(1.0))]
    assert ratios(rows) == ()


def test_a_kept_report_is_still_read_and_has_its_fields() -> None:
    """A change of the schema that breaks a reader of older files, or of newer ones, shows here."""
    kept = KEPT.read_bytes()
    assert holds(msgspec.json.decode(encode(decode(kept))), msgspec.json.decode(kept))


def holds(newer: object, older: object) -> bool:
    """Whether the newer document has all that the older one has; it may have more fields."""
    if isinstance(older, dict):
        return isinstance(newer, dict) and all(holds(newer.get(key), value) for key, value in older.items())
    if isinstance(older, list):
        return isinstance(newer, list) and len(newer) == len(older) and all(map(holds, newer, older))
    return newer == older


def test_every_field_is_always_present() -> None:
    whole = msgspec.json.decode(encode(bench_sample.quick()))
    assert whole.keys() == set(Report.__struct_fields__)
    for found in whole["results"]:
        assert found.keys() == set(results.Row.__struct_fields__)
    contract = ("scenario", "placement", "connections", "body_bytes", "protocol", "rps", "p50_us", "p90_us")
    more = ("p99_us", "p999_us", "cpu_us_per_request", "mesh_rss_mb", "errors", "rounds")
    assert {*contract, *more} <= whole["results"][0].keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"schema": 2}', "its schema is 2; this meshd reads 1"),
        (b"{}", "missing required field `schema`"),
        (b"[1, 2]", "Expected `object`"),
        (b"wrk: not found", "not a report of meshd bench"),
        (b'{"schema": 1, "date": 7}', r"Expected `str`, got `int` - at `\$.date`"),
    ],
)
def test_what_is_not_a_report_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        decode(text)


def test_a_partial_report_says_so() -> None:
    assert decode(encode(report(partial=True))).partial
