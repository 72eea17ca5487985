"""What the parser reads of an HTTPRoute is what the CRD has: each field, with its bounds.

data/httproute-v1.6.1.json is the spec of kubernetes-sigs/gateway-api v1.6.1,
config/crd/experimental/gateway.networking.k8s.io_httproutes.yaml, version v1, without its texts, patterns and
rules; int32 is written as its maximum.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import inspect

from meshd.kube.httproute import HTTPRouteSpec
from meshd.kube.known_fields import unknown
from meshd.kube.parse import KINDS

CRD: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "httproute-v1.6.1.json").read_text())
_BOUNDS = ("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum")
ANSWERED = (
    ".filters[].type",
    ".path.type",
    ".requestRedirect.scheme",
    ".requestRedirect.statusCode",
)
"""Fields whose unknown values have the route answered by a condition, not refused as malformed."""
STRICTER = (".requestHeaderModifier.remove[]", ".responseHeaderModifier.remove[]")
"""Names of header fields, to which the CRD sets no bound here."""
REFUSED_WHOLE = (".externalAuth", ".extensionRef")
"""Of filters that are refused by their type: what is in them is not looked at."""
UNREAD = {"spec.useDefaultGateways"}
"""About Gateways."""


def _said(info: inspect.Type) -> dict[str, Any]:
    """What a type takes, in the CRD's words."""
    match info:
        case inspect.Metadata(type=inner):
            return _said(inner)
        case inspect.UnionType(types=types):
            several = [_said(each) for each in types if not isinstance(each, inspect.NoneType)]
            if all("enum" in each for each in several):
                return {"enum": [value for each in several for value in each["enum"]]}
            (one,) = several
            return one
        case inspect.StructType(fields=fields):
            return {"properties": {each.encode_name: _said(each.type) for each in fields}}
        case inspect.VarTupleType():
            return {
                "items": _said(info.item_type),
                "minItems": info.min_length,
                "maxItems": info.max_length,
            }
        case inspect.StrType():
            # A pattern says better that something must be there.
            least = info.min_length if info.pattern is None or info.min_length else "by pattern"
            return {"minLength": least, "maxLength": info.max_length}
        case inspect.IntType():
            return {"minimum": info.ge, "maximum": info.le}
        case inspect.LiteralType(values=values):
            return {"enum": list(values)}
    return {}


def _differences(crd: dict[str, Any], ours: dict[str, Any], where: str) -> Iterator[str]:
    if where.endswith(REFUSED_WHOLE):
        return
    # The empty text is how an absent one is held.
    if not where.endswith(ANSWERED) and set(crd.get("enum", ())) != set(ours.get("enum", ())) - {""}:
        yield f"{where}: enum"
    if not where.endswith((*ANSWERED, *STRICTER)):
        for bound in _BOUNDS:
            if ours.get(bound) != crd.get(bound) and ours.get(bound) != "by pattern":
                yield f"{where}: {bound} is {ours.get(bound)}, in the CRD {crd.get(bound)}"
    theirs, own = crd.get("properties", {}), ours.get("properties", {})
    yield from (f"{where}.{name}: not read" for name in theirs.keys() - own.keys())
    yield from (f"{where}.{name}: not in the CRD" for name in own.keys() - theirs.keys())
    for name in sorted(theirs.keys() & own.keys()):
        yield from _differences(theirs[name], own[name], f"{where}.{name}")
    if "items" in crd:
        yield from _differences(crd["items"], ours["items"], f"{where}[]")


def test_every_field_is_read_within_the_crds_bounds() -> None:
    found = set(_differences(CRD, _said(inspect.type_info(HTTPRouteSpec)), "spec"))
    assert found == {f"{each}: not read" for each in UNREAD}


def _filled(schema: dict[str, Any]) -> Any:
    """Something with every field of a schema."""
    if "properties" in schema:
        return {name: _filled(each) for name, each in schema["properties"].items()}
    return [_filled(schema["items"])] if "items" in schema else "x"


def test_no_field_of_the_crd_is_told_to_be_unknown_and_others_are() -> None:
    read = KINDS["HTTPRoute"][0]
    assert list(unknown({"spec": _filled(CRD)}, read)) == []
    changed = json.loads(json.dumps(_filled(CRD)).replace('"backendRequest"', '"backendTimeout"'))
    assert list(unknown({"spec": changed}, read)) == ["spec.rules[0].timeouts.backendTimeout"]


def test_a_filter_of_each_type_has_its_field() -> None:
    item = CRD["properties"]["rules"]["items"]["properties"]["filters"]["items"]
    fields = {name.lower() for name in item["properties"]} - {"type"}
    assert {name.lower() for name in item["properties"]["type"]["enum"]} == fields
