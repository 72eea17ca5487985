"""The report's colours. Each differs from the others also to people who do not tell red from green, or blue
from yellow (tests/bench/test_bench_report_colours.py), and the lines differ by marker and dash besides."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.bench.report.markup import Markup
from meshd.bench.results import Party, Scenario

SCENARIO_LIGHT: Mapping[Scenario, str] = {
    "direct": "#596273",
    "sidecar": "#8f1d12",
    "node-proxy": "#c07d10",
    "node-proxy-sockmap": "#6a1b7d",
    "meshd-slow": "#0e9fc0",
    "meshd-fast": "#1450f5",
}
SCENARIO_DARK: Mapping[Scenario, str] = {
    "direct": "#828a98",
    "sidecar": "#f0502a",
    "node-proxy": "#efc05f",
    "node-proxy-sockmap": "#b545d8",
    "meshd-slow": "#b8eef5",
    "meshd-fast": "#7aa2ff",
}
PARTY_LIGHT: Mapping[Party, str] = {
    "client": "#8b94a4",
    "app": "#3b5fc0",
    "proxy": "#06644a",
    "softirq": "#c58500",
}
PARTY_DARK: Mapping[Party, str] = {
    "client": "#d4d9e1",
    "app": "#5a78c8",
    "proxy": "#22c494",
    "softirq": "#e08a1e",
}
_PAPER_LIGHT = {"page": "#f5f6f8", "card": "#ffffff", "ink": "#1a2029", "quiet": "#525c6b", "line": "#d5dae1"}
_PAPER_DARK = {"page": "#0d1117", "card": "#161b22", "ink": "#e8ecf1", "quiet": "#a5afbd", "line": "#333c48"}


def _theme(*parts: Mapping[Scenario, str] | Mapping[Party, str] | Mapping[str, str]) -> Mapping[str, str]:
    return {name: colour for part in parts for name, colour in part.items()}


LIGHT = _theme(_PAPER_LIGHT, SCENARIO_LIGHT, PARTY_LIGHT)
DARK = _theme(_PAPER_DARK, SCENARIO_DARK, PARTY_DARK)
"""By theme: a CSS custom property, without its dashes, to a colour."""


def style(where: str) -> Markup:
    """CSS: the colours as custom properties of ``where``, and a class of each name that sets --c to it."""
    names = (*SCENARIO_LIGHT, *PARTY_LIGHT)
    return Markup(
        f"{where}{{{_properties(LIGHT)}}}"
        f"@media(prefers-color-scheme:dark){{{where}{{{_properties(DARK)}}}}}"
        + "".join(f".{name}{{--c:var(--{name})}}" for name in names)
    )


def _properties(theme: Mapping[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in theme.items())
