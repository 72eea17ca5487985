"""The official conformance suite's HTTPRoute cases: behind meshd, and behind Envoy fed by meshd control."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.conformance import own_policies
from tests.conformance.cases import CASES, Case, Message, Session, manifests
from tests.conformance.world import CONSUMER, ENVOY, MESHD, World
from tests.support.lab import MESHD as COMMAND
from tests.support.lab import until


@pytest.mark.parametrize("proxy", [MESHD, ENVOY])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_requests(world: World, case: Case, proxy: str) -> None:
    world.check(proxy, case)


@pytest.mark.parametrize(
    ("case", "session", "proxy"),
    [
        pytest.param(case, session, proxy, id=f"{session.path}-{proxy}")
        for case in CASES
        for session in case.sessions
        for proxy in session.proxies
    ],
)
def test_sessions(world: World, case: Case, session: Session, proxy: str) -> None:
    world.check_session(proxy, case, session)


@pytest.mark.parametrize("proxy", [MESHD, ENVOY])
@pytest.mark.parametrize("case", own_policies.CASES, ids=lambda case: case.name)
def test_policies(world: World, case: Case, proxy: str) -> None:
    world.check(proxy, case)


def test_who_is_hashed_alike_gets_the_same_pod_whichever_proxy_asks(world: World) -> None:
    by_user = []
    for user in range(16):
        request = msgspec.structs.replace(own_policies.HASHED, headers={"x-user": str(user)})
        (meshd,), (envoy,) = (world.pods(proxy, request) for proxy in (MESHD, ENVOY))
        assert meshd == envoy
        by_user.append(meshd)
    assert set(by_user) == {"echo-v1", "echo-v2"}


@pytest.mark.parametrize("proxy", [MESHD, ENVOY])
def test_a_client_of_a_service_with_session_affinity_gets_one_pod(world: World, proxy: str) -> None:
    assert len(world.pods(proxy, own_policies.AFFINE)) == 1


_WITHOUT_GRANT = {"status": 500}
_WITHOUT_ROUTE = {"answer": Message(absent=("X-Header-Set",))}


@pytest.mark.parametrize(
    ("case_name", "kind", "then"),
    [
        ("HTTPRouteReferenceGrant", "ReferenceGrant", _WITHOUT_GRANT),
        ("MeshConsumerRoute", "HTTPRoute", _WITHOUT_ROUTE),
    ],
)
def test_what_is_withdrawn(
    world: World, tmp_path: Path, case_name: str, kind: str, then: dict[str, object]
) -> None:
    (case,) = (each for each in CASES if each.name == case_name)
    changed = tuple(msgspec.structs.replace(request, **then) for request in case.requests)
    without = msgspec.structs.replace(case, requests=changed)
    file = tmp_path / "object.json"
    file.write_text(
        json.dumps(
            next(o for o in manifests() if o["kind"] == kind and case.slug in json.dumps(o["metadata"]))
        )
    )

    def hold(expected: Case) -> bool:
        for proxy in (MESHD, ENVOY):
            world.check(proxy, expected)
        return True

    world.lab.run("delete", "-f", str(file))
    try:
        until(lambda: hold(without))
    finally:
        world.lab.run("apply", "-f", str(file))
    until(lambda: hold(case))


@pytest.mark.parametrize("case", [c for c in CASES if c.conditions], ids=lambda case: case.name)
def test_conditions(world: World, case: Case) -> None:
    objects = world.lab.status().objects
    (status,) = (each for each in objects if (each.kind, each.name) == ("HTTPRoute", case.slug))
    (parent,) = status.parents
    assert {c.type: c.reason for c in parent.conditions} == case.conditions
    for condition in parent.conditions:
        assert condition.status == (condition.reason == condition.type)


def _said(world: World, *arguments: str) -> str:
    command = [*COMMAND, *arguments, "--instance", world.lab.instance("node1")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_what_the_command_line_says(world: World) -> None:
    words = [line.split() for line in _said(world, "routes").splitlines()]
    service, route = "conformance/meshconsumerroute-v1:80", f"{CONSUMER}/meshconsumerroute"
    assert [service, CONSUMER, f"{route}/0"] in [line[:3] for line in words]
    assert [service, "*", "default"] in [line[:3] for line in words]
    assert [route, "Service", service.partition(":")[0], "yes", "yes", "-"] in words
    (node,) = json.loads(_said(world, "routes", "-o", "json"))["nodes"]
    (told,) = (each for each in node["httpRoutes"] if each["name"] == "httprouteinvalidnonexistentbackendref")
    (parent,) = told["status"]["parents"]
    assert [c["status"] for c in parent["conditions"]] == ["True", "False"]
    assert f"Route    {route}/0," in _said(world, "explain", service, "GET", "/", "--from", CONSUMER)
    assert "Route    default," in _said(world, "explain", service, "GET", "/")
    named = _said(world, "explain", "conformance/meshhttproutenamedrule:80", "GET", "/named")
    assert "Route    conformance/meshhttproutenamedrule/named-rule," in named


def test_what_the_command_line_says_of_policies(world: World) -> None:
    words = [line.split() for line in _said(world, "routes").splitlines()]
    target = ["HTTPRoute", "conformance/meshhttproutenamedrule", "named-rule"]
    assert ["RoutePolicy", "conformance/named", *target, "yes", "-"] in words
    missing = "TargetNotFound Service conformance/nowhere does not exist"
    assert [
        *("RoutePolicy", "conformance/nowhere", "Service", "conformance/nowhere"),
        *missing.split(),
    ] in words
    (node,) = json.loads(_said(world, "routes", "-o", "json"))["nodes"]
    told = {each["name"]: each["status"]["ancestors"][0]["conditions"][0] for each in node["policies"]}
    assert [name for name, found in told.items() if found["status"] != "True"] == ["nowhere"]
    assert {"timed", "named", "limited"} <= told.keys()
    named = _said(world, "explain", "conformance/meshhttproutenamedrule:80", "GET", "/named")
    assert "  Policy   RoutePolicy conformance/named\n" in named
    assert "  Path     proxy, because: off by policy\n" in named
    weighted = _said(world, "explain", "conformance/meshhttprouteweight:80", "GET", "/")
    assert "    Policy UpstreamPolicy conformance/timed\n" in weighted
    assert "    Does   connect timeout 4 s\n" in weighted
