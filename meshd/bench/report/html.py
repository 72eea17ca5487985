"""The report as one HTML page: no script, nothing fetched, light and dark by the reader's setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshd.bench.report import charts, draw, findings, palette, tables, words
from meshd.bench.report.charts import Chart
from meshd.bench.report.loads import Load, Sweep, loads, ours, ratio, sweeps
from meshd.bench.report.markup import Markup, element, joined
from meshd.bench.report.styles import CHART, PAGE
from meshd.bench.report.tables import Table
from meshd.bench.results import BASES, Case, Report, Scenario

_MOST_DRAWN, _MOST_DOTS = 18, 36
"""Loads that have charts of their own, the rest have their table; and that are in those of all. It bounds the
page's size."""


def page(report: Report) -> str:
    """The whole page."""
    title, line = findings.headings(report)
    found = loads(report)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        # An empty icon, or a browser asks the server for one.
        Markup('<link rel="icon" href="data:,">'),
        element("title", f"{title} · {report.date[:10]}"),
        element("style", Markup(palette.style(":root") + PAGE + CHART)),
    )
    body = element(
        "main",
        draw.signs(),
        element("h1", title),
        element("p", line, class_="quiet"),
        element("p", findings.PARTIAL, class_="partial", role="note") if report.partial else Markup(),
        *(_headline(report, found) if found else ()),
        *_loads(report, found),
        *(_sweep(one) for one in sweeps(report)),
        *_memory(report),
        *_foot(report),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


def _headline(report: Report, found: Sequence[Load]) -> Iterable[Markup]:
    load = found[0]
    said = findings.findings(report, load)
    method = element("a", "How it was measured", href="#method")
    yield element("p", element("b", _load(load.case)), " · ", method, class_="load")
    for to in reversed(BASES):
        cards = [one for one in said if one.to == to]
        if not cards:
            continue
        yield element(
            "h2", f"{words.capital(findings.name(load))} against {findings.AGAINST[to]}", class_="against"
        )
        yield element(
            "ul",
            *(
                element(
                    "li",
                    element("b", one.value),
                    element("span", f"the {one.what}, {'better' if one.better else 'worse'}"),
                    element("small", one.detail),
                    class_="card",
                )
                for one in cards
            ),
            class_="cards",
        )
    yield _charts(
        charts.compared(load, "rps"),
        charts.compared(load, "p99_us"),
        charts.distribution(load),
        charts.cpu(load),
    )
    yield element("div", _load_tables(load), class_="box tables")


def _loads(report: Report, found: Sequence[Load]) -> Iterable[Markup]:
    if len(found) < 2:
        return
    yield element("h2", "Every load")
    summary = tables.by_load(report, found)
    if summary.rows:
        yield element(
            "p", "Also where meshd is slower. Each is a median of the ratios within a round.", class_="quiet"
        )
        yield element("div", _table(summary), class_="box tables loads")
    yield _charts(charts.overview(found[:_MOST_DOTS], "rps"), charts.overview(found[:_MOST_DOTS], "p99_us"))
    for i, load in enumerate(found[1:], 1):
        drawn = (charts.compared(load, "rps"), charts.distribution(load)) if i < _MOST_DRAWN else ()
        yield element(
            "details",
            element(
                "summary",
                element("b", _load(load.case)),
                element("span", _gist(report, load)),
            ),
            _charts(*drawn),
            _load_tables(load),
            class_="box",
        )


def _load(case: Case) -> str:
    """Broken between its parts only, but for the last ones, which are long."""
    *parts, protocol, route = words.capital(words.load(case)).split(" · ")
    return " · ".join((*(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts), protocol, route))


def _gist(report: Report, load: Load) -> str:
    row = ours(load)
    if row is None:
        return "not measured" if not load.measured else ""
    found = ((to, ratio(report, row, to, "rps")) for to in BASES)
    parts = [f"{words.times(one.value)} {to}" for to, one in found if one]
    return f"throughput {', '.join(parts)}" if parts else ""


def _sweep(sweep: Sweep) -> Markup:
    return joined(
        (
            element("h2", "Latency at fixed rates"),
            element("p", _load(sweep.case), class_="quiet"),
            _charts(charts.against_rate(sweep, "p50_us"), charts.against_rate(sweep, "p99_us")),
            _folded("Figures at fixed rates", _table(tables.of_sweep(sweep))),
        )
    )


def _memory(report: Report) -> Iterable[Markup]:
    table = tables.of_memory(report.memory)
    if table is None:
        return
    yield element("h2", "Memory")
    beside = element("figure", _table(table))
    yield _charts(charts.memory(report.memory), beside=beside)


def _foot(report: Report) -> Iterable[Markup]:
    if missing := tables.missing(report):
        yield element("h2", "Not measured")
        yield element("ul", *(element("li", line) for line in missing), class_="plain")
    present = {row.scenario for row in report.results} | {one.scenario for one in report.memory}
    if not report.results and not report.memory:
        yield element("p", "Nothing was measured.")
    if present:
        yield element("h2", "Scenarios")
        yield _facts((words.SCENARIO[s], words.MEANING[s]) for s in words.SCENARIO if s in present)
    yield element("h2", "Method", id="method")
    yield element("ol", *(element("li", line) for line in findings.method(report)), class_="plain")
    yield element("h2", "Machine")
    yield _facts(findings.machine(report))


def _facts(found: Iterable[tuple[str, str]]) -> Markup:
    parts = [part for key, value in found for part in (element("dt", key), element("dd", value))]
    return element("dl", *parts, class_="facts")


def _charts(*found: Chart | None, beside: Markup | None = None) -> Markup:
    figures = [_figure(one) for one in found if one]
    if beside:
        figures.append(beside)
    return element("div", *figures, class_="charts") if figures else Markup()


def _figure(chart: Chart) -> Markup:
    caption = element("figcaption", element("h3", chart.title), element("p", chart.note))
    keys = [_key(scenario) for scenario in chart.legend]
    keys += [element("li", element("i", class_=party), words.PARTY[party]) for party in chart.parties]
    legend = element("ul", *keys, class_="legend") if keys else Markup()
    return element("figure", caption, legend, chart.drawing.markup)


def _key(scenario: Scenario) -> Markup:
    return element("li", draw.sample(scenario), words.SCENARIO[scenario])


def _load_tables(load: Load) -> Markup:
    parts = [_table(tables.of_load(load))]
    if cpu := tables.cpu_by_party(load):
        parts.append(_table(cpu))
    return joined(parts)


def _folded(title: str, inside: Markup) -> Markup:
    return element("details", element("summary", element("b", title)), inside, class_="box")


def _table(table: Table) -> Markup:
    """In a box of its own that scrolls, by keyboard too."""
    mine = words.SCENARIO["meshd-fast"]
    head = element("tr", *(_cell("th", table, i, cell, scope="col") for i, cell in enumerate(table.head)))
    rows = [
        element(
            "tr",
            _cell("th", table, 0, row[0], scope="row"),
            *(_cell("td", table, i, cell) for i, cell in enumerate(row[1:], 1)),
            class_="hero" if row[0] == mine else None,
        )
        for row in table.rows
    ]
    whole = element(
        "table", element("caption", table.caption), element("thead", head), element("tbody", *rows)
    )
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=table.caption)


def _cell(name: str, table: Table, column: int, text: str, scope: str | None = None) -> Markup:
    return element(name, text, class_="w" if column in table.words_in else None, scope=scope)
