"""Three kinds of chart as inline SVG: bars, lines, dots.

Written here and not taken from a library, because the charts take their colours from the page's custom
properties, so that one drawing serves light and dark, need a percentile axis, and must not bring a script.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from meshd.bench.report.axes import Axis
from meshd.bench.report.markup import Markup, element, joined, number
from meshd.bench.results import Range, Scenario

WIDTH = 400.0
"""Of every chart, in its own pixels. A phone shows it at four fifths of that: text of 13 stays legible."""
_BAR_PITCH = 43.0
_LEFT = 52.0
_RIGHT = WIDTH - 16.0
_PLOT_TOP = 26.0
_PLOT_BOTTOM = 246.0
_MARKERS: dict[Scenario, str] = {
    "direct": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "sidecar": "M-4,-4h8v8h-8z",
    "node-proxy": "M0,-5l5,9h-10z",
    "node-proxy-sockmap": "M0,5l5,-9h-10z",
    "meshd-slow": "M0,-5.5l5,5.5l-5,5.5l-5,-5.5z",
    "meshd-fast": "M-5.5,0a5.5,5.5 0 1,0 11,0a5.5,5.5 0 1,0 -11,0z",
}


class Drawing(NamedTuple):
    """A chart, WIDTH wide."""

    markup: Markup
    height: float


class Bar(NamedTuple):
    """One bar: its name and its value stand over it."""

    label: str
    value: str
    parts: tuple[tuple[str, float], ...]
    """Class and length of each, from the left."""
    spread: Range | None = None


class Line(NamedTuple):
    """One scenario's line."""

    scenario: Scenario
    points: tuple[tuple[float, float], ...]
    marked: bool
    """A marker at each point, not only at the last."""


class Dots(NamedTuple):
    """One load's dots."""

    label: tuple[str, str]
    """Two lines of text."""
    values: tuple[tuple[Scenario, float], ...]


def bars(title: str, description: str, rows: Sequence[Bar]) -> Drawing:
    """Horizontal bars; the longest (or the end of its spread) takes the whole width."""
    longest = max((*(sum(v for _, v in r.parts) for r in rows), *(r.spread[1] for r in rows if r.spread)))
    scale = (WIDTH - 4) / (longest or 1.0)
    drawn = [_bar(row, _BAR_PITCH * i, scale) for i, row in enumerate(rows)]
    return _svg(title, description, _BAR_PITCH * len(rows), drawn)


def _bar(row: Bar, top: float, scale: float) -> Markup:
    parts = [
        _text(0, top + 14, row.label, class_="name"),
        _text(WIDTH, top + 14, row.value, class_="value"),
    ]
    x = 0.0
    for name, value in row.parts:
        width = value * scale
        parts.append(
            element("rect", x=x, y=top + 20, width=max(width, 1.0), height=11.0, class_=f"bar {name}")
        )
        x += width
    if row.spread and row.spread[0] < row.spread[1]:
        low, high = (value * scale for value in row.spread)
        y = number(top + 34)
        parts.append(element("path", d=f"M{number(low)},{y}H{number(max(high, low + 1))}", class_="spread"))
    return joined(parts)


class Labels(NamedTuple):
    """What stands at a line chart's axes."""

    x_title: str
    y_title: str
    x: Callable[[float], str]
    y: Callable[[float], str]


def plot_axes(
    make_x: Callable[[float, float], Axis], make_y: Callable[[float, float], Axis]
) -> tuple[Axis, Axis]:
    """A line chart's axes, made for its frame."""
    return make_x(_LEFT, _RIGHT - 10), make_y(_PLOT_BOTTOM, _PLOT_TOP)


def lines(title: str, description: str, series: Sequence[Line], x: Axis, y: Axis, labels: Labels) -> Drawing:
    """Lines over two axes."""
    parts = [_text(0, 13, labels.y_title, class_="axis")]
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(element("line", x1=_LEFT, x2=_RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(_text(_LEFT - 6, at + 4, labels.y(tick), class_="end"))
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(element("line", x1=at, x2=at, y1=_PLOT_BOTTOM, y2=_PLOT_BOTTOM + 4, class_="grid"))
        parts.append(_text(at, _PLOT_BOTTOM + 21, labels.x(tick), class_="middle"))
    parts.append(_text(_RIGHT, _PLOT_BOTTOM + 41, labels.x_title, class_="axis end"))
    parts += [_line(one, x, y) for one in series]
    return _svg(title, description, _PLOT_BOTTOM + 47, parts)


def _line(series: Line, x: Axis, y: Axis) -> Markup:
    points = [(x.at(one), y.at(other)) for one, other in series.points]
    path = "M" + "L".join(f"{number(px)},{number(py)}" for px, py in points)
    marked = points if series.marked else points[-1:]
    return joined(
        (
            element("path", d=path, class_=f"line {series.scenario}"),
            *(marker(series.scenario, px, py) for px, py in marked),
        )
    )


def dots(
    title: str, description: str, rows: Sequence[Dots], x: Axis, tick: Callable[[float], str]
) -> Drawing:
    """A line of dots for each row, all over one axis, which is written above and below."""
    pitch, top = 52.0, 24.0
    bottom = top + pitch * len(rows)
    parts = []
    for value in x.ticks:
        at = x.at(value)
        parts.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
        parts += [_text(at, y, tick(value), class_="middle") for y in (14.0, bottom + 18)]
    for i, row in enumerate(rows):
        y = top + pitch * i
        parts.append(element("line", x1=0.0, x2=WIDTH, y1=y, y2=y, class_="rule"))
        parts.append(element("rect", x=0.0, y=y + 1, width=WIDTH, height=20.0, class_="band"))
        parts.append(_text(0, y + 16, row.label[0], class_="name"))
        parts.append(_text(WIDTH, y + 16, row.label[1], class_="end"))
        parts += [marker(scenario, x.at(value), y + 36) for scenario, value in row.values]
    return _svg(title, description, bottom + 24, parts)


def dots_axis(make: Callable[[float, float], Axis]) -> Axis:
    """A dot chart's axis."""
    return make(20.0, WIDTH - 30.0)


def marker(scenario: Scenario, x: float, y: float) -> Markup:
    """A scenario's sign: ``signs`` has its form, once for the page."""
    return element("use", href=f"#{scenario}", x=x, y=y, class_=f"marker {scenario}")


def sample(scenario: Scenario) -> Markup:
    """A scenario's line and sign, for a legend."""
    return element(
        "svg", element("use", href=f"#{scenario}-key"), class_=f"key {scenario}", aria_hidden="true"
    )


def signs() -> Markup:
    """The forms of all signs, and of lines with one for legends; to be in a page once."""
    parts: list[Markup] = []
    for scenario, form in _MARKERS.items():
        line = element("path", d="M0,8H30", class_=f"line {scenario}")
        parts.append(element("path", id=scenario, d=form))
        parts.append(element("g", line, marker(scenario, 15, 8), id=f"{scenario}-key"))
    return element("svg", element("defs", *parts), width=0.0, height=0.0, class_="signs", aria_hidden="true")


def _svg(title: str, description: str, height: float, parts: Sequence[str]) -> Drawing:
    markup = element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewbox=f"0 0 {number(WIDTH)} {number(height)}",
        role="img",
        class_="chart",
    )
    return Drawing(markup, height)


def _text(x: float, y: float, text: str, **attributes: str) -> Markup:
    return element("text", text, x=x, y=y, **attributes)
