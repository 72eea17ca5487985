from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from meshd.gateway.written_status import CONTROLLER, MAX_PARENTS, patch
from meshd.model.status import Condition, ParentReference, ParentStatus

THEN, NOW = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 27, 12, tzinfo=UTC)
OTHER = {
    "parentRef": {"name": "gateway", "group": "gateway.networking.k8s.io", "kind": "Gateway", "port": 0},
    "controllerName": "example.com/other",
    "conditions": [],
    "unknown": {"stays": True},
}


def _parent(name: str = "web", accepted: bool = True, message: str = "", port: int = 0) -> ParentStatus:
    ref = ParentReference(kind="Service", name=name, port=port)
    reason = "Accepted" if accepted else "NoMatchingParent"
    conditions = (
        Condition(type="Accepted", status=accepted, reason=reason, message=message),
        Condition(type="ResolvedRefs", status=True, reason="ResolvedRefs"),
    )
    return ParentStatus(parent=f"Service default/{name}", ref=ref, conditions=conditions)


def _route(parents: list[Any] | None, version: str = "7") -> bytes:
    status = {} if parents is None else {"status": {"parents": parents}}
    metadata = {"name": "r", "namespace": "default", "resourceVersion": version, "generation": 3}
    return json.dumps({"metadata": metadata, "spec": {}, **status}).encode()


def _parents(text: bytes | None) -> list[Any]:
    assert text is not None
    return list(json.loads(text)["status"]["parents"])


def test_what_is_written() -> None:
    made = patch("HTTPRoute", _route(None), (_parent(port=80),), 3, NOW)
    assert made is not None
    assert json.loads(made)["metadata"] == {"resourceVersion": "7"}
    assert _parents(made) == [
        {
            "parentRef": {"name": "web", "group": "", "kind": "Service", "port": 80},
            "controllerName": CONTROLLER,
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "reason": kind,
                    "message": "",
                    "lastTransitionTime": "2026-11-27T12:00:00Z",
                    "observedGeneration": 3,
                }
                for kind in ("Accepted", "ResolvedRefs")
            ],
        }
    ]


def test_what_is_there_is_not_written_again() -> None:
    there = _parents(patch("HTTPRoute", _route([OTHER]), (_parent(), _parent("api")), 3, THEN))
    assert patch("HTTPRoute", _route(there), (_parent(), _parent("api")), 3, NOW) is None


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    there = _parents(patch("HTTPRoute", _route(None), (_parent(),), 3, THEN))
    written = _parents(patch("HTTPRoute", _route(there), (_parent(message="new"),), 4, NOW))
    accepted = written[0]["conditions"][0]
    assert (accepted["message"], accepted["observedGeneration"]) == ("new", 4)
    assert accepted["lastTransitionTime"] == "2026-11-01T00:00:00Z"
    turned = _parents(patch("HTTPRoute", _route(there), (_parent(accepted=False),), 4, NOW))[0]["conditions"]
    assert [each["lastTransitionTime"] for each in turned] == ["2026-11-27T12:00:00Z", "2026-11-01T00:00:00Z"]


def test_others_entries_stay_as_they_are_and_ours_that_are_not_any_more_go() -> None:
    there = _parents(patch("HTTPRoute", _route([OTHER]), (_parent(), _parent("old")), 3, THEN))
    written = _parents(patch("HTTPRoute", _route(there), (_parent(),), 3, NOW))
    assert written[0] == OTHER
    assert [entry["parentRef"]["name"] for entry in written] == ["gateway", "web"]
    assert _parents(patch("HTTPRoute", _route(written), (), 3, NOW)) == [OTHER]
    assert patch("HTTPRoute", _route([OTHER]), (), 3, NOW) is None


def test_no_more_than_there_is_room_for() -> None:
    many = tuple(_parent(f"s{i}") for i in range(40))
    assert len(_parents(patch("HTTPRoute", _route([OTHER] * 3), many, 3, NOW))) == MAX_PARENTS


def test_a_policys_are_its_ancestors() -> None:
    status = {"ancestors": [{"ancestorRef": {"name": "x"}, "controllerName": "example.com/other"}]}
    text = json.dumps({"metadata": {"resourceVersion": "1"}, "status": status}).encode()
    made = patch("RoutePolicy", text, (_parent(),), 3, THEN)
    assert made is not None
    written = json.loads(made)["status"]
    assert written.keys() == {"ancestors"}
    other, ours = written["ancestors"]
    assert other == status["ancestors"][0]
    assert ours["controllerName"] == CONTROLLER
    assert ours["ancestorRef"]["kind"] == "Service"
    again = json.dumps({"metadata": {"resourceVersion": "2"}, "status": written}).encode()
    assert patch("RoutePolicy", again, (_parent(),), 3, NOW) is None
