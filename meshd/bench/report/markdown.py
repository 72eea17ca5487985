"""The report as Markdown (GitHub's, with tables)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshd.bench.report import tables, words
from meshd.bench.report.findings import PARTIAL, headings, machine, method, sentences, table
from meshd.bench.report.loads import loads, sweeps
from meshd.bench.report.tables import Table
from meshd.bench.results import Report

_SPECIAL = re.compile(r"([\\`*_<|])")


def markdown(report: Report) -> str:
    """Headline first, then the tables, the method, the machine and what was not measured."""
    title, line = headings(report)
    found = loads(report)
    parts = [f"# {title}", line]
    if report.partial:
        parts.append(f"> **{PARTIAL}**")
    if found:
        said = sentences(report, found[0])
        parts += [
            "\n".join(f"- **{_escaped(one)}**" for one in said),
            f"Headline load: {_escaped(words.load(found[0].case))}.",
        ]
        if said:
            parts.append(_table(table(report, found[0])))
    if not report.results and not report.memory:
        parts.append("Nothing was measured.")
    summary = tables.by_load(report, found)
    if summary.rows:
        parts += ["## Under each load", _table(summary)]
    for load in found:
        parts += [f"### {_escaped(words.capital(words.load(load.case)))}", _table(tables.of_load(load))]
        if cpu := tables.cpu_by_party(load):
            parts += [f"{cpu.caption}:", _table(cpu)]
    for sweep in sweeps(report):
        parts += [
            f"### At fixed rates: {_escaped(words.load(sweep.case))}",
            _table(tables.of_sweep(sweep)),
        ]
    if memory := tables.of_memory(report.memory):
        parts += ["## Memory", f"{memory.caption}:", _table(memory)]
    present = {row.scenario for row in report.results} | {one.scenario for one in report.memory}
    meaning = [f"- **{words.SCENARIO[s]}**: {words.MEANING[s]}" for s in words.SCENARIO if s in present]
    if meaning:
        parts += ["## Scenarios", "\n".join(meaning)]
    parts += [
        "## Method",
        _list(method(report)),
        "## Machine",
        _list(f"{key}: {value}" for key, value in machine(report)),
    ]
    if missing := tables.missing(report):
        parts += ["## Not measured", _list(missing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _table(table: Table) -> str:
    rule = ("---" if i in table.words_in else "---:" for i in range(len(table.head)))
    rows = (table.head, tuple(rule), *(tuple(_escaped(cell) for cell in row) for row in table.rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
