"""The CustomResourceDefinitions of our policy kinds, made from their structs.

``python -m meshd.kube.crds .`` (``make crds``) writes them; a test holds the files to the structs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from meshd.kube.cross_fields import CrossRule
from meshd.kube.parse import OWN_GROUP, OWN_VERSION, Policy
from meshd.kube.reference import page
from meshd.kube.routepolicy import RoutePolicy
from meshd.kube.upstreampolicy import UpstreamPolicy

Schema = dict[str, Any]
POLICIES: tuple[tuple[type[Policy], str], ...] = (
    (UpstreamPolicy, "upstreampolicies"),
    (RoutePolicy, "routepolicies"),
)
"""The kinds, and what several of one are called."""
_KEPT = frozenset(
    {"description", "type", "enum", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
)
_HEADER = "# Made by `make crds` from meshd/kube. Do not edit.\n"


def definition(policy: type[Policy], plural: str) -> Schema:
    """The CRD of a kind."""
    kind = policy.__name__
    version = {
        "name": OWN_VERSION.partition("/")[2],
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {"openAPIV3Schema": _object(policy)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{OWN_GROUP}",
            # GEP-713: how tools find policies, and that they are attached directly (GEP-2648).
            "labels": {"gateway.networking.k8s.io/policy": "Direct"},
        },
        "spec": {
            "group": OWN_GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "categories": ["meshd"],
            },
            "versions": [version],
        },
    }


def _object(policy: type[Policy]) -> Schema:
    (_, spec) = policy.__struct_fields__
    assert spec == "spec"
    return {
        "description": policy.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": OWN_VERSION, "type": "string"},
            "kind": {"description": policy.__name__, "type": "string"},
            "metadata": {"type": "object"},
            "spec": _spec_schema(policy),
            "status": _STATUS,
        },
    }


def _spec_schema(policy: type[Policy]) -> Schema:
    (field,) = (each for each in msgspec.structs.fields(policy) if each.name == "spec")
    (_,), components = msgspec.json.schema_components([field.type])
    rules = {struct.__name__: struct.RULES for struct in _structs(field.type) if hasattr(struct, "RULES")}
    return _structural(components[field.type.__name__], components, rules)


def _structs(struct: type) -> Iterator[Any]:
    """A struct and all in it."""

    def walk(info: msgspec.inspect.Type) -> Iterator[Any]:
        match info:
            case msgspec.inspect.StructType(cls=cls, fields=fields):
                yield cls
                for field in fields:
                    yield from walk(field.type)
            case msgspec.inspect.UnionType(types=types):
                for each in types:
                    yield from walk(each)
            case msgspec.inspect.VarTupleType(item_type=item) | msgspec.inspect.Metadata(type=item):
                yield from walk(item)

    yield from walk(msgspec.inspect.type_info(struct))


def _structural(
    schema: Schema, components: Mapping[str, Schema], rules: Mapping[str, tuple[CrossRule, ...]]
) -> Schema:
    """A JSON Schema as the API server wants it: no references, no null, types everywhere."""
    if "anyOf" in schema:  # or null, as everything that may be unset
        (inner,) = (each for each in schema["anyOf"] if each != {"type": "null"})
        schema = {**inner, **{k: v for k, v in schema.items() if k != "anyOf"}}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = {**components[name], **{k: v for k, v in schema.items() if k != "$ref"}}
    found = {key: value for key, value in schema.items() if key in _KEPT}
    if "enum" in schema:
        found["type"] = "integer" if isinstance(schema["enum"][0], int) else "string"
    if "pattern" in schema:
        # Go's expressions have no other end of the text than $, and there it is no other.
        found["pattern"] = schema["pattern"].replace(r"\Z", "$")
    if schema.get("default") not in (None, (), ""):
        found["default"] = schema["default"]
    if "items" in schema:
        found["items"] = _structural(schema["items"], components, rules)
    if "properties" in schema:
        found["properties"] = {
            name: _structural(each, components, rules) for name, each in schema["properties"].items()
        }
        if schema["required"]:
            found["required"] = schema["required"]
        if rules.get(schema["title"]):
            found["x-kubernetes-validations"] = [_validation(rule) for rule in rules[schema["title"]]]
    return found


def _validation(rule: CrossRule) -> Schema:
    where = {"fieldPath": f".{rule.api_field}"} if rule.field else {}
    return {"rule": rule.cel, "message": rule.message, **where}


def _text(description: str, most: int) -> Schema:
    return {"description": description, "type": "string", "maxLength": most}


_CONDITION: Schema = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": _text("What it is about.", 316),
        "status": {
            "description": "Whether it is so.",
            "type": "string",
            "enum": ["True", "False", "Unknown"],
        },
        "reason": _text("Why, in a word.", 1024),
        "message": _text("Why, for people.", 32768),
        "observedGeneration": {"description": "Of the policy.", "type": "integer", "format": "int64"},
        "lastTransitionTime": {"description": "Of status.", "type": "string", "format": "date-time"},
    },
}
_STATUS: Schema = {
    "description": "What became of the policy, for each of its targets (PolicyStatus, GEP-713).",
    "type": "object",
    "properties": {
        "ancestors": {
            "description": "One for each target.",
            "type": "array",
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["ancestorRef", "controllerName"],
                "properties": {
                    "ancestorRef": {
                        "description": "The target.",
                        "type": "object",
                        "required": ["name"],
                        "properties": {
                            "group": _text("Its group.", 253),
                            "kind": _text("Its kind.", 63),
                            "namespace": _text("Its namespace.", 63),
                            "name": _text("Its name.", 253),
                            "sectionName": _text("Its port or rule.", 253),
                        },
                    },
                    "controllerName": _text("Who says so.", 253),
                    "conditions": {
                        "description": "Accepted.",
                        "type": "array",
                        "maxItems": 8,
                        "items": _CONDITION,
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["type"],
                    },
                },
            },
        }
    },
}


class _WithoutAliases(yaml.SafeDumper):
    """Writes what is there twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> Iterator[tuple[str, str]]:
    """The files that are made: their names, from the top of the source tree, and contents."""
    definitions = [definition(policy, plural) for policy, plural in POLICIES]
    for each in definitions:
        text = yaml.dump(each, Dumper=_WithoutAliases, sort_keys=False, width=110)
        yield f"charts/meshd/crds/{OWN_GROUP}_{each['spec']['names']['plural']}.yaml", _HEADER + text
    yield "docs/policies-reference.md", page(definitions)


def main() -> None:
    """Write all files below the folder that is named on the command line."""
    for name, content in files():
        path = Path(sys.argv[1], name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


if __name__ == "__main__":
    main()
