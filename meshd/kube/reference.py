"""The page that lists every field of our policy kinds, made from their CRDs. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_TABLE = "| field of `spec` | default | what it is |\n| --- | --- | --- |\n"
Schema = dict[str, Any]
PREAMBLE = """\
# Policies: all fields

Made by `make crds` from what the control plane and the CRDs in `charts/meshd/crds` hold an object to.
[Policies](policies.md) says how they work. Durations are the Gateway API's (`1h30m`, `250ms`).
"""


def page(definitions: list[Schema]) -> str:
    """The whole page, of CRDs."""
    return PREAMBLE + "".join(_section(each) for each in definitions)


def _section(definition: Schema) -> str:
    version = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = version["properties"]["spec"]
    kind = definition["spec"]["names"]["kind"]
    head = f"\n## {kind}\n\n{version['description']}\n\n{_TABLE}"
    rows = "".join(f"| {' | '.join(cells)} |\n" for cells in _rows(spec, ""))
    rules = "".join(f"- {line}\n" for line in _rules(spec, "spec"))
    return f"{head}{rows}\nAnd, over several fields:\n\n{rules}"


def _rows(schema: Schema, where: str) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, each in schema.get("properties", {}).items():
        path = f"{where}.{name}".lstrip(".") + ("[]" if each["type"] == "array" else "")
        default = f"`{each['default']}`" if "default" in each else ("required" if name in required else "")
        yield f"`{path}`", default, f"{_escaped(each['description'])}{_bounds(each)}"
        yield from _rows(each.get("items", each), path)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _bounds(schema: Schema) -> str:
    if "enum" in schema:
        values = ", ".join(f"`{each}`" if each != "" else '`""`' for each in schema["enum"])
        return f" {'One of' if len(schema['enum']) > 1 else 'Only'} {values}."
    if "minimum" in schema:
        return f" {schema['minimum']} to {schema['maximum']}."
    if "maxItems" in schema:
        return f" {schema.get('minItems', 0)} to {schema['maxItems']} of them."
    return ""


def _rules(schema: Schema, where: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"`{where}{rule.get('fieldPath', '')}` {rule['message']}."
    for name, each in schema.get("properties", {}).items():
        yield from _rules(each.get("items", each), f"{where}.{name}" + ("[]" if "items" in each else ""))
