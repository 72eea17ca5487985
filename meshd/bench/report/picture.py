"""The headline as one SVG file, for a README. It has a card of its own behind it, so that it is legible on
light and on dark, whichever of the two the page around it has."""

from __future__ import annotations

from meshd.bench.report import charts, draw, findings, palette, words
from meshd.bench.report.charts import Chart
from meshd.bench.report.loads import loads
from meshd.bench.report.markup import Markup, element, joined
from meshd.bench.report.styles import CHART
from meshd.bench.results import Figure, Report

_FIGURES: tuple[Figure, ...] = ("rps", "p99_us")
_MARGIN = 24.0
_GAP = 40.0
_WIDTH = 2 * _MARGIN + 2 * draw.WIDTH + _GAP
_TOP = 112.0
_FOOT = 34.0
_STYLE = Markup(
    ".paper{fill:var(--card);stroke:var(--line)}.title{font-size:19px;font-weight:700;fill:var(--ink)}.chart-title{font-weight:700;fill:var(--ink)}"
)


def picture(report: Report) -> str:
    """Throughput and p99 latency of the headline's load, side by side."""
    found = loads(report)
    shown = [one for figure in _FIGURES if found and (one := charts.compared(found[0], figure))]
    load = words.capital(words.load(found[0].case)) if found else "Nothing was measured."
    height = _TOP + max((one.drawing.height for one in shown), default=0.0) + _FOOT
    _, line = findings.headings(report)
    partial = f" {findings.PARTIAL}" if report.partial else ""
    said = " ".join(findings.sentences(report, found[0])) if found else ""
    title = "What a mesh costs"
    drawn = element(
        "svg",
        element("title", title),
        element("desc", f"{load}. {said}{partial}"),
        element("style", Markup(palette.style(":root") + CHART + _STYLE)),
        element("rect", x=0.5, y=0.5, width=_WIDTH - 1, height=height - 1, rx=10.0, class_="paper"),
        element("text", title, x=_MARGIN, y=38.0, class_="title"),
        element("text", f"{load}.{partial}", x=_MARGIN, y=60.0),
        *(_placed(one, _MARGIN + i * (draw.WIDTH + _GAP)) for i, one in enumerate(shown)),
        element("text", f"meshd bench · {line}", x=_MARGIN, y=height - 16),
        xmlns="http://www.w3.org/2000/svg",
        viewbox=f"0 0 {_WIDTH:g} {height:g}",
        width=_WIDTH,
        height=height,
        role="img",
        aria_label=f"{title}: {load}. {said}",
    )
    return f"{drawn}\n"


def _placed(chart: Chart, x: float) -> Markup:
    better = chart.note.partition(".")[0].lower()
    heading = element("text", f"{chart.title}, {better}", x=x, y=_TOP - 16, class_="chart-title")
    return joined(
        (
            heading,
            element("svg", chart.drawing.markup, x=x, y=_TOP, width=draw.WIDTH, height=chart.drawing.height),
        )
    )
