"""What an API server says of the kinds that it has, by which kubectl finds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshd.kube_api.resource import Resource

CLUSTER_SCOPED = frozenset(("namespaces",))
VERBS = ["create", "get", "list", "patch", "update", "watch"]


def answer(path: str, resources: Iterable[Resource]) -> dict[str, Any] | None:
    """To ``/api``, ``/apis``, ``/api/v1`` and ``/apis/GROUP/VERSION``; None: it is none of these."""
    found = list(resources)
    versions = sorted({each.api_version for each in found})
    match path.strip("/").split("/"):
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            named = [_group(each) for each in versions if "/" in each]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _merged(named)}
        case ["api" | "apis", *rest] if "/".join(rest) in versions:
            version = "/".join(rest)
            listed = [each for each in found if each.api_version == version]
            return {
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
                "resources": [line for each in listed for line in _lines(each)],
            }  # fmt: skip
    return None


def _group(api_version: str) -> dict[str, Any]:
    version = {"groupVersion": api_version, "version": api_version.split("/")[1]}
    return {"name": api_version.split("/")[0], "versions": [version], "preferredVersion": version}


def _merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_name: dict[str, dict[str, Any]] = {}
    for each in groups:
        if held := by_name.get(each["name"]):
            held["versions"] += each["versions"]
        else:
            by_name[each["name"]] = each
    return list(by_name.values())


def _lines(resource: Resource) -> list[dict[str, Any]]:
    line = {
        "name": resource.plural, "singularName": resource.kind.lower(), "kind": resource.kind,
        "namespaced": resource.plural not in CLUSTER_SCOPED, "verbs": VERBS,
    }  # fmt: skip
    return [line, {**line, "name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]}]
