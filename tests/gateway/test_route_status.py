"""Conditions of routes: for each parent, with the Gateway API's reasons, whatever else is wrong."""

from __future__ import annotations

import pytest

from meshd.gateway.route_status import object_status
from meshd.gateway.written_status import CONTROLLER
from meshd.xds.resources import status_from, status_message
from tests.gateway.manifests import (
    PARENT,
    Object,
    condition,
    http_route,
    rule,
    service,
    status,
    translated,
)

NOWHERE = {"name": "nowhere", "port": 80}
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": NOWHERE}}
FUTURE = {"type": "FutureFilter"}


@pytest.mark.parametrize(
    ("parent", "only", "accepted", "resolved"),
    [
        ({}, rule(), "Accepted", "ResolvedRefs"),
        ({}, rule(backendRefs=[NOWHERE]), "Accepted", "BackendNotFound"),
        ({"port": 81}, rule(), "NoMatchingParent", "ResolvedRefs"),
        ({"port": 81}, rule(backendRefs=[NOWHERE]), "NoMatchingParent", "BackendNotFound"),
        ({}, rule(filters=[MIRROR]), "Accepted", "BackendNotFound"),
        ({}, rule(filters=[FUTURE]), "UnsupportedValue", "ResolvedRefs"),
        ({}, rule(filters=[FUTURE], backendRefs=[NOWHERE]), "UnsupportedValue", "BackendNotFound"),
        ({"port": 81}, rule(filters=[FUTURE]), "NoMatchingParent", "ResolvedRefs"),
    ],
)
def test_both_conditions_are_always_there(parent: Object, only: Object, accepted: str, resolved: str) -> None:
    translation = translated(service(), http_route(only, parentRefs=[{**PARENT, **parent}]))
    for kind, reason in (("Accepted", accepted), ("ResolvedRefs", resolved)):
        found = condition(translation, "r", kind)
        assert (found.reason, found.status) == (reason, reason == kind)
        assert bool(found.message) != found.status


def test_the_first_backend_that_does_not_resolve_gives_the_reason_and_all_are_told() -> None:
    refs = [{"name": "x", "group": "example.com", "kind": "Thing"}, NOWHERE, NOWHERE]
    found = condition(translated(service(), http_route(rule(backendRefs=refs))), "r", "ResolvedRefs")
    assert found.reason == "InvalidKind"
    assert "example.com/Thing is not supported" in found.message
    assert found.message.count("Service default/nowhere does not exist") == 1


def test_the_status_as_the_api_has_it() -> None:
    parents = [{**PARENT, "port": 80, "sectionName": "a"}, {**PARENT, "namespace": "default", "name": "v2"}]
    route = http_route(rule(), parentRefs=parents)
    metadata = route["metadata"]
    assert isinstance(metadata, dict)
    metadata["generation"] = 7
    translation = translated(service("web", {"port": 80, "name": "a"}), route)
    # As it comes to an agent.
    told = status_from(status_message(status(translation, "r")))
    assert told == status(translation, "r")
    resolved = {
        "type": "ResolvedRefs",
        "status": "True",
        "reason": "ResolvedRefs",
        "message": "",
        "observedGeneration": 7,
    }
    assert object_status(told) == {
        "parents": [
            {
                "parentRef": {"group": "", "kind": "Service", "name": "web", "sectionName": "a", "port": 80},
                "controllerName": CONTROLLER,
                "conditions": [{**resolved, "type": "Accepted", "reason": "Accepted"}, resolved],
            },
            {
                "parentRef": {"group": "", "kind": "Service", "namespace": "default", "name": "v2"},
                "controllerName": CONTROLLER,
                "conditions": [
                    {
                        **resolved,
                        "type": "Accepted",
                        "status": "False",
                        "reason": "NoMatchingParent",
                        "message": "Service default/v2 does not exist",
                    },
                    resolved,
                ],
            },
        ]
    }


def test_a_parent_is_told_as_the_route_names_it() -> None:
    parents = [{**PARENT, "port": 80, "sectionName": "a"}]
    web = service("web", {"port": 80, "name": "a"})
    translation = translated(web, http_route(rule(), parentRefs=parents))
    assert status(translation, "r").parents[0].parent == "Service default/web:80 a"
