"""A benchmark's report as text: JSON, Markdown, one HTML page, one SVG picture. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from meshd.bench.report.html import page
from meshd.bench.report.markdown import markdown
from meshd.bench.report.picture import picture
from meshd.bench.results import Report, encode

Form = Literal["json", "md", "html", "svg"]
FORMS: tuple[Form, ...] = get_args(Form)

_RENDERERS: Mapping[Form, Callable[[Report], str]] = {
    "json": lambda report: encode(report).decode(),
    "md": markdown,
    "html": page,
    "svg": picture,
}


def render(report: Report, form: Form) -> str:
    """The report in one form, with a newline at its end."""
    return _RENDERERS[form](report)
