"""What an API server says of the kinds that it has, by which kubectl and client libraries find them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshd.kube_api.resource import Resource
from tests.kube_api.kinds import CLUSTER_SCOPED, has_status

VERSION = {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "platform": "linux/amd64"}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_PATCH_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")


def answer(path: str, resources: Iterable[Resource]) -> dict[str, Any] | None:
    """To ``/version``, ``/api``, ``/apis``, ``/openapi/v3`` and for each version below; None: to none."""
    found = list(resources)
    versions = sorted({each.api_version for each in found})
    match path.strip("/").split("/"):
        case ["version"]:
            return VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        case ["apis"]:
            named = [_group(each) for each in versions if "/" in each]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _merged(named)}
        case ["openapi", "v3"]:
            return {
                "paths": {
                    _root(each): {"serverRelativeURL": f"/openapi/v3/{_root(each)}"} for each in versions
                }
            }
        case ["openapi", "v3", "api" | "apis", *rest] if "/".join(rest) in versions:
            return _schemas([each for each in found if each.api_version == "/".join(rest)])
        case ["api" | "apis", *rest] if "/".join(rest) in versions:
            version = "/".join(rest)
            listed = [each for each in found if each.api_version == version]
            return {
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
                "resources": [line for each in listed for line in _lines(each)],
            }  # fmt: skip
    return None


def _root(api_version: str) -> str:
    return f"apis/{api_version}" if "/" in api_version else f"api/{api_version}"


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
        "namespaced": resource.plural not in CLUSTER_SCOPED, "verbs": _VERBS,
    }  # fmt: skip
    status = {**line, "name": f"{resource.plural}/status", "verbs": ["get", "patch", "update"]}
    return [line, status] if has_status(resource) else [line]


def _schemas(resources: list[Resource]) -> dict[str, Any]:
    """As far as kubectl looks before it writes: whether a PATCH of the kind takes fieldValidation.

    Without schemas it merges by the types that are compiled into it.
    """
    paths = {}
    for each in resources:
        group, _, version = each.api_version.rpartition("/")
        kind = {"group": group, "version": version, "kind": each.kind}
        parameters = [
            {"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation", "force")
        ]
        patch = {
            "parameters": parameters,
            "x-kubernetes-group-version-kind": kind,
            "x-kubernetes-action": "patch",
        }
        paths[f"{each.path_in('{namespace}')}/{{name}}"] = {"patch": {**patch, "responses": {}}}
    info = {"title": "Kubernetes", "version": VERSION["gitVersion"]}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": {}}}
