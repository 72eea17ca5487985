"""What the renderers write."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import pytest

from meshd.bench.report import FORMS, Form, axes, render, words
from meshd.bench.report.findings import findings, method, sentences
from meshd.bench.report.loads import held, loads
from meshd.bench.report.markup import element
from meshd.bench.results import Memory, decode
from tests.support import bench_sample
from tests.support.bench_reports import REPORTS, failed
from tests.support.bench_sample import case, measured, report

MOST_BYTES = 320_000
"""Of the page."""


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("form", FORMS)
def test_every_report_has_every_form(name: str, form: Form) -> None:
    text = render(REPORTS[name](), form)
    assert text.endswith("\n")
    assert not re.search(r"\b(nan|inf|None)\b", text)
    if form == "json":
        assert decode(text.encode()) == REPORTS[name]()
    if form == "svg":
        ET.fromstring(text)
    if form == "html":
        assert len(text.encode()) < MOST_BYTES
        assert "<script" not in text
        assert not re.search(r'(src|href)="(?!#|data:,)', text), "nothing is fetched"
        for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
            ET.fromstring(drawing)


def test_markdown_begins_with_the_headline() -> None:
    lines = render(bench_sample.quick(), "md").splitlines()
    assert lines[0] == "# meshd bench: what a mesh costs"
    assert lines[4].startswith("- **Against a pair of sidecars, meshd has 2")
    assert "Headline load: same node · 64 connections · 16 B · HTTP/1.1 keep-alive · with route." in lines


def test_markdown_tables_are_even() -> None:
    for name, make in REPORTS.items():
        for table in re.findall(r"(?:^\|.*\|$\n)+", render(make(), "md"), re.MULTILINE):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(widths) == 1, f"{name}:\n{table}"


@pytest.mark.parametrize(("form", "reason"), [
    ("md", r"no agent came up: \<bpf> & co \| see the log"),
    ("html", "no agent came up: &lt;bpf&gt; &amp; co | see the log"),
])  # fmt: skip
def test_what_is_missing_says_why(form: Form, reason: str) -> None:
    text = render(failed(), form)
    assert reason in text
    assert "10 requests failed, in every round" in text
    assert "left out for errors: round 2" in text
    assert "Partial: the run was ended early." in text


def test_what_the_kernel_carried_is_told() -> None:
    assert "99.98 % in the kernel" in render(bench_sample.quick(), "html")


def test_memory_is_compared_by_pss_only_if_all_have_it() -> None:
    with_pss = Memory(scenario="sidecar", pods=1, rss_mb=70.0, pss_mb=30.0)
    without = Memory(scenario="meshd-fast", pods=1, rss_mb=90.0)
    assert held([with_pss]) == [("sidecar", 1, 30.0)]
    assert held([with_pss, without]) == [("sidecar", 1, 70.0), ("meshd-fast", 1, 90.0)]
    assert "70 MB (30 MB)" in render(report(memory=(with_pss,)), "md")


def test_noisy_rounds_and_missed_rates_are_told() -> None:
    text = render(bench_sample.full(), "md")
    assert "noisy: round 3" in text
    assert "could not keep up" in text


def test_the_headline_is_the_load_that_most_were_measured_under() -> None:
    rows = [measured(case("meshd-fast")), measured(case("direct", connections=1))]
    rows += [measured(case(name, "two-nodes", connections=1)) for name in ("direct", "meshd-fast")]
    assert loads(report(*rows))[0].case == case("direct", "two-nodes", connections=1)


def test_the_headlines_ratios_are_the_reports() -> None:
    quick = bench_sample.quick()
    found = {(one.to, one.what): one for one in findings(quick, loads(quick)[0])}
    given = {(r.to, r.figure): r.value for r in quick.ratios if r.scenario == "meshd-fast"}
    assert found["sidecar", "throughput"].value == words.times(given["sidecar", "rps"])
    assert found["direct", "p99 latency"].value == words.times(given["direct", "p99_us"])
    assert not found["direct", "CPU per request"].better, "meshd uses more than no mesh"
    assert found["sidecar", "CPU per request"].better


def test_memory_in_the_headline_is_that_of_the_most_pods_that_both_have() -> None:
    full = bench_sample.full()
    memory = [one for one in findings(full, loads(full)[0]) if one.what == "memory"]
    assert [(one.to, one.detail) for one in memory] == [
        ("sidecar", "110 MB against 3,015 MB with 50 pods on a node")
    ]


def test_without_meshd_there_is_no_headline() -> None:
    one = report(measured(case("direct")))
    assert sentences(one, loads(one)[0]) == []


def test_the_method_has_five_lines() -> None:
    assert len(method(bench_sample.quick())) == 5


@pytest.mark.parametrize(("us", "text"), [
    (None, "–"), (0.0, "0.00 µs"), (0.42, "0.42 µs"), (29.16, "29.2 µs"),
    (999.4, "999 µs"), (999.6, "1.00 ms"), (29_160.0, "29.2 ms"), (999_960.0, "1.00 s"), (61e6, "61.0 s"),
])  # fmt: skip
def test_times_are_written_in_the_unit_that_suits(us: float | None, text: str) -> None:
    assert words.time(us) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(25.63, "25.6×"), (0.0243, "0.024×"), (1.031, "1.03×"), (1234.0, "1,234×")]
)
def test_ratios_have_the_digits_that_matter(ratio: float, text: str) -> None:
    assert words.times(ratio) == text


@pytest.mark.parametrize(
    "values", [(1.0,), (5.0, 5.0), (3.0, 4.0), (0.4, 6e7), (1.0, 1e9), (), (0.0,), (999.0, 1001.0)]
)
@pytest.mark.parametrize("make", [axes.linear, axes.logarithmic])
def test_an_axis_holds_its_values_and_has_two_to_seven_ticks(
    make: Callable[[Sequence[float], float, float], axes.Axis], values: tuple[float, ...]
) -> None:
    axis = make(values, 10.0, 110.0)
    assert 2 <= len(axis.ticks) <= 7
    places = [axis.at(tick) for tick in axis.ticks]
    assert places == sorted(places)
    assert len(set(places)) == len(places)
    for value in values:
        if value > 0:
            assert axis.low <= axis.transform(value) <= axis.high + 1e-9


def test_a_percentile_axis_gives_each_nine_the_same_room() -> None:
    axis = axes.percentiles(0.9995, 0.0, 400.0)
    assert axis.ticks == pytest.approx((0.5, 0.9, 0.99, 0.999, 0.9999))
    assert [axis.at(q) for q in (0.9, 0.99, 0.999)] == pytest.approx([100.0, 200.0, 300.0])


def test_a_percentile_axis_ends_where_there_is_no_room_for_more() -> None:
    axis = axes.percentiles(1 - 1e-7, 0.0, 400.0)
    assert axis.ticks[-1] == pytest.approx(0.99999)
    assert axis.at(1.0) == 400.0


def test_one_rate_is_bars_and_several_are_lines() -> None:
    one = render(report(measured(case("sidecar", rate=1000.0))), "html")
    assert "p99 latency at 1,000 requests a second" in one
    assert "against rate" not in one
    assert "p99 latency against rate" in render(bench_sample.full(), "html")


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "1 < 2", title='"quoted"')
    assert element("p", inner, " & so") == '<p><b title="&quot;quoted&quot;">1 &lt; 2</b> &amp; so</p>'
