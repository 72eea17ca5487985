"""Put a report of ``meshd bench`` into the README, with its picture: ``python -m bench.readme FILE``.

FILE is the report of the standard loads as JSON. What stands between the README's two marks is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from meshd.bench import results
from meshd.bench.plan import Load
from meshd.bench.report import render, words
from meshd.bench.results import Figure, Report, ResultsError, Scenario

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- made by make bench-readme: -->", "<!-- until here -->"
PICTURE = "docs/bench.svg"
_NAMES: dict[Scenario, str] = {
    "direct": "no mesh",
    "sidecar": "Envoy sidecars",
    "node-proxy": "one Envoy a node",
    "node-proxy-sockmap": "the same, sockmap under it",
    "meshd-slow": "meshd, fast path off",
    "meshd-fast": "**meshd**",
}
Column = tuple[str, Load, Figure]


def _columns(name: str, load: Load, unit: str, figures: Sequence[Figure]) -> list[Column]:
    heads: dict[Figure, str] = {"p50_us": "p50", "p99_us": "p99", "cpu_us_per_request": "CPU each"}
    first: Column = (f"{name}: {unit}", load, "rps")
    return [first, *((heads[figure], load, figure) for figure in figures)]


_HTTP1: list[Column] = [
    *_columns(
        "one node", Load("same-node", 64, route=True), "req/s", ("p50_us", "p99_us", "cpu_us_per_request")
    ),
    *_columns(
        "two nodes", Load("two-nodes", 64, route=True), "req/s", ("p50_us", "p99_us", "cpu_us_per_request")
    ),
]
_OTHERS: list[Column] = [
    *_columns("HTTP/2", Load("same-node", 64, protocol="h2"), "req/s", ("p99_us",)),
    *_columns(
        "gRPC calls by a route", Load("same-node", 64, protocol="grpc", route=True), "calls/s", ("p99_us",)
    ),
    *_columns("gRPC streams", Load("same-node", 64, protocol="grpc-stream"), "messages/s", ("p99_us",)),
]


def block(report: Report) -> str:
    """What stands between the marks."""
    machine, rounds = report.machine, f"{report.settings.rounds} interleaved rounds"
    first = (
        "HTTP/1.1 with 64 keep-alive connections, by a route that matches on path, header and weight, "
        f"answers of 16 bytes; {report.date[:10]}, {machine.cpus} CPUs, kernel {_short(machine.kernel)}, "
        f"Envoy {_short(machine.versions.get('envoy', '?'))}, medians of {rounds} of "
        f"{report.settings.duration_s:g} s:"
    )
    second = (
        "One connection with 64 streams, on one node. The service of the first and the last has its "
        "connections [spliced](docs/fast-path.md#http2); the calls are decided on by a route, one by one, in "
        "meshd by its proxy:"
    )
    picture = f"![Throughput and p99 latency of a request without a mesh and with each]({PICTURE})"
    return "\n\n".join(
        (picture, _filled(first), _table(report, _HTTP1), _filled(second), _table(report, _OTHERS))
    )


def _short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _filled(text: str) -> str:
    return textwrap.fill(text, 120, break_on_hyphens=False)


def _table(report: Report, columns: Sequence[Column]) -> str:
    rows = {row.case: row for row in report.results}
    lines = [
        f"| scenario | {' | '.join(name for name, _, _ in columns)} |",
        f"| --- | {' | '.join('---:' for _ in columns)} |",
    ]
    for scenario, name in _NAMES.items():
        found = [(rows.get(load.case(scenario)), figure) for _, load, figure in columns]
        cells = [words.figure(figure, row.figure(figure) if row else None) for row, figure in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def placed(readme: str, report: Report) -> str:
    """The README with the report in it. Raises ValueError without its marks."""
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    text, count = marked.subn(lambda _: f"{BEGIN}\n\n{block(report)}\n\n{END}", readme)
    if count != 1:
        raise ValueError(f"the README needs {BEGIN} and {END}, once each")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__)
    parser.add_argument("report", type=Path)
    path: Path = parser.parse_args(arguments).report
    try:
        report = results.decode(path.read_bytes())
        readme = ROOT / "README.md"
        text = placed(readme.read_text(), report)
        (ROOT / PICTURE).write_text(render(report, "svg"))
        readme.write_text(text)
    except (OSError, ResultsError, ValueError) as error:
        print(f"bench.readme: {path}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
