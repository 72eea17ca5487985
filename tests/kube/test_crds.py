"""The CRDs say what our parser says: the files are current, and both take and refuse the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import jsonschema
import kubernetes_validate
import pytest
import yaml
from celpy.adapter import json_to_cel
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.kube.crds import POLICIES, definition, files
from meshd.kube.parse import OWN_VERSION, parse

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "charts" / "meshd" / "crds"
SPECS: dict[str, dict[str, Any]] = {
    kind.__name__: definition(kind, plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][
        "spec"
    ]
    for kind, plural in POLICIES
}


def test_the_files_are_those_that_the_structs_make() -> None:
    made = dict(files())
    assert {name: (ROOT / name).read_text() for name in made} == made, "run `make crds`"
    assert {f"charts/meshd/crds/{path.name}" for path in FOLDER.iterdir()} < made.keys()


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_each_is_a_custom_resource_definition(path: Path) -> None:
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), "1.32", strict=True)


def _schemas(schema: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield where, schema
    for name, each in schema.get("properties", {}).items():
        yield from _schemas(each, f"{where}.{name}")
    if "items" in schema:
        yield from _schemas(schema["items"], f"{where}[]")


@pytest.mark.parametrize("kind", SPECS)
def test_everything_is_described_and_bounded(kind: str) -> None:
    for where, schema in _schemas(SPECS[kind], "spec"):
        assert schema["type"] in ("object", "array", "string", "integer"), where
        # An item that is no object is described where its list is.
        assert schema.get("description") or where.endswith("[]"), f"{where} has no description"
        if schema["type"] == "array":
            assert schema["maxItems"] <= 16, where
        if schema["type"] == "integer" and "enum" not in schema:
            assert schema["minimum"] <= schema["maximum"], where
        if schema["type"] == "string":
            assert {"enum", "maxLength", "pattern"} & schema.keys(), f"{where} may be of any length"


TEXTS = ("web", "x-user", "/a", "a b", "", "-", "10s", "50ms", "49ms", "0s", "1h30m", "3", "A", "a.test")


@st.composite
def _values(draw: st.DrawFn, schema: dict[str, Any], wild: bool) -> Any:
    """Something like what a schema asks for; where ``wild`` also some just beyond its bounds."""
    beyond = wild and draw(st.sampled_from((False, False, False, False, True)))
    if "enum" in schema:
        return draw(st.sampled_from(("Other",) if beyond else schema["enum"]))
    match schema["type"]:
        case "integer":
            low, high = schema["minimum"], schema["maximum"]
            within = (low, min(low + 1, high), (low + high) // 2, high)
            return draw(st.sampled_from((low - 1, high + 1) if beyond else within))
        case "string":
            return draw(st.sampled_from([text for text in TEXTS if beyond or _valid(text, schema)]))
        case "array":
            least = 0 if beyond else schema.get("minItems", 0)
            return draw(st.lists(_values(schema["items"], wild), min_size=least, max_size=2))
    required = set() if beyond else set(schema.get("required", ()))
    chosen = st.sampled_from((True, False, False))
    return {
        name: draw(_values(each, wild))
        for name, each in schema.get("properties", {}).items()
        if name in required or draw(chosen)
    }


def _valid(value: Any, schema: dict[str, Any]) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


def _with_defaults(value: Any, schema: dict[str, Any]) -> Any:
    """As the API server fills them in, before it runs the rules."""
    if isinstance(value, list):
        return [_with_defaults(each, schema["items"]) for each in value]
    if not isinstance(value, dict):
        return value
    properties = schema["properties"]
    filled = {name: each["default"] for name, each in properties.items() if "default" in each} | value
    return {name: _with_defaults(each, properties[name]) for name, each in filled.items()}


def _broken_rules(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _broken_rules(each, schema["items"])
    elif isinstance(value, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            if not _holds(rule["rule"], value):
                yield rule["message"]
        for name, each in value.items():
            yield from _broken_rules(each, schema["properties"][name])


ENVIRONMENT = celpy.Environment()
PROGRAMS: dict[str, celpy.Runner] = {}


def _holds(rule: str, value: Any) -> bool:
    if rule not in PROGRAMS:
        PROGRAMS[rule] = ENVIRONMENT.program(ENVIRONMENT.compile(rule))
    return bool(PROGRAMS[rule].evaluate({"self": json_to_cel(value)}))


@pytest.mark.parametrize("kind", SPECS)
@given(data=st.data())
@settings(max_examples=250)
def test_the_api_server_and_the_parser_take_the_same(kind: str, data: st.DataObject) -> None:
    spec = data.draw(_values(SPECS[kind], data.draw(st.booleans())))
    document = {"apiVersion": OWN_VERSION, "kind": kind, "metadata": {"name": "p"}, "spec": spec}
    (parsed,) = parse(json.dumps(document)).objects
    told = sorted(problem.message for problem in parsed.problems)
    filled = _with_defaults(spec, SPECS[kind])
    if _valid(filled, SPECS[kind]):
        assert told == sorted(_broken_rules(filled, SPECS[kind]))
        assert (parsed.object is None) == bool(told)
    else:
        assert parsed.object is None
        assert told
