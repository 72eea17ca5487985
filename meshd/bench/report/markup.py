"""Elements of HTML and SVG. Whatever is not markup already is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_CLOSED = frozenset({"line", "path", "rect", "use"})
"""SVG's elements without children."""
_VOID = frozenset({"meta"})
"""HTML's that have no end tag (HTML standard, 13.1.2)."""

Attribute = str | float | bool | None


class Markup(str):
    """Text that is markup, and not escaped again."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: Attribute) -> Markup:
    """One element. ``class_`` is class, ``aria_label`` aria-label; None and False leave an attribute out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    if name in _CLOSED and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """All of them, one after the other."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def number(value: float) -> str:
    """A coordinate: one digit after the point is a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    name = {"viewbox": "viewBox"}.get(name, name)
    text = "" if value is True else value if isinstance(value, str) else number(value)
    return f' {name}="{escape(text)}"'
