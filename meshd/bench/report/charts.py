"""Which charts a report has, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from meshd.bench.report import draw, words
from meshd.bench.report.axes import MOST_NINES, linear, logarithmic, percentiles
from meshd.bench.report.draw import Bar, Dots, Drawing, Labels, Line
from meshd.bench.report.loads import Load, Sweep, held, scenarios, shared_once
from meshd.bench.results import HIGHER_IS_BETTER, PARTIES, Figure, Memory, Party, Row, Scenario

_LAST = 1 - 10.0**-MOST_NINES
_MOST_POINTS = 30
"""Of a distribution's line: more cannot be seen."""


class Chart(NamedTuple):
    """A drawing and what belongs beside it."""

    title: str
    note: str
    drawing: Drawing
    legend: tuple[Scenario, ...] = ()
    parties: tuple[Party, ...] = ()


def compared(load: Load, figure: Figure) -> Chart | None:
    """A bar of one figure for each scenario, with its range over the rounds."""
    rows = [row for row in load.measured if row.figure(figure) is not None]
    if not rows:
        return None
    unit = " req/s" if figure == "rps" else ""
    bars = [
        Bar(
            words.SCENARIO[row.scenario],
            f"{words.figure(figure, row.figure(figure))}{unit}",
            ((row.scenario, row.figure(figure) or 0.0),),
            row.spread.get(figure),
        )
        for row in rows
    ]
    title = words.capital(words.FIGURE[figure])
    better = "Longer" if figure in HIGHER_IS_BETTER else "Shorter"
    drawing = draw.bars(title, _listed(rows, figure), bars)
    return Chart(title, f"{better} is better. The thin line is the range over the rounds.", drawing)


def cpu(load: Load) -> Chart | None:
    """CPU time that each party used for a request."""
    rows = [row for row in load.measured if row.cpu_us_per_request]
    if not rows:
        return None
    bars = []
    for row in rows:
        parts = tuple((party, row.cpu_by_party[party]) for party in PARTIES if row.cpu_by_party.get(party))
        total = words.time(row.cpu_us_per_request)
        whole: tuple[tuple[str, float], ...] = ((row.scenario, row.cpu_us_per_request or 0.0),)
        bars.append(Bar(words.SCENARIO[row.scenario], total, parts or whole))
    parties = tuple(party for party in PARTIES if any(row.cpu_by_party.get(party) for row in rows))
    title = "CPU time per request"
    drawing = draw.bars(title, _listed(rows, "cpu_us_per_request"), bars)
    return Chart(title, "Shorter is better.", drawing, parties=parties)


def distribution(load: Load) -> Chart | None:
    """Latency at each percentile."""
    lines = [line for row in load.measured if (line := _distribution_line(row))]
    if not lines:
        return None
    greatest = max(quantile for line in lines for quantile, _ in line.points)
    latencies = [us for line in lines for _, us in line.points]
    x, y = draw.plot_axes(partial(percentiles, greatest), partial(logarithmic, latencies))
    labels = Labels("percentile of requests", "latency", _percent, words.tick_time)
    title = "Latency distribution"
    described = " ".join((_listed(load.measured, "p50_us"), _listed(load.measured, "p99_us")))
    drawing = draw.lines(title, described, lines, x, y, labels)
    note = "Lower is better. Closed loop: a client waits for its answer before it asks again."
    return Chart(title, note, drawing, tuple(line.scenario for line in lines))


def _distribution_line(row: Row) -> Line | None:
    points = [(q, us) for q, us in row.histogram if us > 0 and q <= _LAST]
    if len(points) > 1:
        stride = -(-len(points) // _MOST_POINTS)
        return Line(row.scenario, (*points[:-1:stride], points[-1]), marked=False)
    known = ((0.5, row.p50_us), (0.9, row.p90_us), (0.99, row.p99_us), (0.999, row.p999_us))
    from_figures = tuple((quantile, us) for quantile, us in known if us)
    return Line(row.scenario, from_figures, marked=True) if from_figures else None


def against_rate(sweep: Sweep, figure: Figure) -> Chart | None:
    """Latency at each rate that was asked for; bars, if it was only one."""
    lines = []
    rows = [row for row in sweep.rows if not row.not_measured and row.rate and row.figure(figure)]
    if len({row.rate for row in rows}) == 1:
        bars = compared(Load(sweep.case, tuple(rows)), figure)
        title = f"{words.capital(words.FIGURE[figure])} at {words.count(rows[0].rate)} requests a second"
        return bars and bars._replace(title=title)
    for scenario in scenarios(rows):
        points = tuple(
            (row.rate or 0.0, row.figure(figure) or 0.0) for row in rows if row.scenario == scenario
        )
        lines.append(Line(scenario, points, marked=True))
    if not lines:
        return None
    x, y = draw.plot_axes(
        partial(logarithmic, [rate for line in lines for rate, _ in line.points]),
        partial(logarithmic, [us for line in lines for _, us in line.points]),
    )
    name = words.FIGURE[figure]
    labels = Labels("requests a second, asked for", name, words.tick_count, words.tick_time)
    title = f"{words.capital(name)} against rate"
    note = "Lower is better. Open loop: latency counts from when a request was due, so waiting is in it."
    drawing = draw.lines(title, " ".join(_ends(rows, figure)), lines, x, y, labels)
    return Chart(title, note, drawing, tuple(line.scenario for line in lines))


def _ends(rows: Sequence[Row], figure: Figure) -> Iterator[str]:
    for scenario in scenarios(rows):
        of = [row for row in rows if row.scenario == scenario]
        first, last = words.figure(figure, of[0].figure(figure)), words.figure(figure, of[-1].figure(figure))
        yield (
            f"{words.SCENARIO[scenario]}: {first} at {words.count(of[0].rate)} requests a second, "
            f"{last} at {words.count(of[-1].rate)}."
        )


def memory(found: Sequence[Memory]) -> Chart | None:
    """Resident memory of the mesh against the pods on a node."""
    known = sorted(held(found), key=lambda one: one[1])
    lines = []
    for scenario in words.SCENARIO:
        points = tuple((float(pods), mb) for of, pods, mb in known if of == scenario)
        if points and scenario != "direct":
            lines.append(Line(scenario, points, marked=True))
    if not lines:
        return None
    x, y = draw.plot_axes(
        partial(linear, [pods for line in lines for pods, _ in line.points]),
        partial(linear, [mb for line in lines for _, mb in line.points]),
    )
    labels = Labels("pods on the node", "resident memory of the mesh", words.tick_count, words.tick_memory)
    described = " ".join(
        f"{words.SCENARIO[line.scenario]}: {words.memory(mb)} with {pods:.0f} pods."
        for line in lines
        for pods, mb in line.points[-1:]
    )
    title = "Memory against pods"
    counted = " Memory that processes share is counted once." if shared_once(found) else ""
    note = f"Lower is better. All processes of the mesh on one node.{counted}"
    drawing = draw.lines(title, described, lines, x, y, labels)
    return Chart(title, note, drawing, tuple(line.scenario for line in lines))


def overview(found: Sequence[Load], figure: Figure) -> Chart | None:
    """One figure of every load."""
    rows = []
    for load in found:
        values = tuple((row.scenario, value) for row in load.measured if (value := row.figure(figure)))
        if values:
            rows.append(Dots(words.load_lines(load.case), values))
    if not rows:
        return None
    axis = draw.dots_axis(partial(logarithmic, [value for row in rows for _, value in row.values]))
    name = words.FIGURE[figure]
    better, tick = ("right", words.tick_count) if figure == "rps" else ("left", words.tick_time)
    title = f"{words.capital(name)}, every load"
    described = "The same figures are in the tables of the loads."
    drawing = draw.dots(title, described, rows, axis, tick)
    unit = "Requests a second. " if figure == "rps" else ""
    note = f"{unit}Further {better} is better; the axis is logarithmic."
    return Chart(title, note, drawing, scenarios([row for load in found for row in load.measured]))


def _percent(quantile: float) -> str:
    return f"{100 * quantile:.6g}%"


def _listed(rows: Sequence[Row], figure: Figure) -> str:
    values = (
        f"{words.SCENARIO[row.scenario]} {words.figure(figure, row.figure(figure))}"
        for row in rows
        if row.figure(figure) is not None
    )
    unit = ", requests a second" if figure == "rps" else ""
    return f"{words.FIGURE[figure]}{unit}: {', '.join(values)}."
