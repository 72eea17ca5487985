"""The official suite's TLSRoute and TCPRoute cases: behind meshd, and behind Envoy fed by meshd control."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from tests.conformance.cases import NAMESPACE
from tests.conformance.l4_cases import CASES, Case, Connection
from tests.conformance.world import ENVOY, MESHD, World
from tests.support.lab import until

_SHARE_TOLERANCE = 0.1
"""With 500 connections nearly five standard deviations."""
_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def _check(world: World, proxy: str, case: Case) -> None:
    asked = [
        {"address": f"{case.slug}.{NAMESPACE}"}
        | {name: getattr(each, name) for name in ("port", "server_name", "times")}
        for each in case.connections
    ]
    for connection, answers in zip(case.connections, world.connect(proxy, asked), strict=True):
        shares = Counter(answers)
        expected = connection.split or {connection.to: 1.0}
        assert shares.keys() == expected.keys(), connection
        for pod, share in expected.items():
            assert abs(shares[pod] / shares.total() - share) < _SHARE_TOLERANCE, connection


@_CASE
@pytest.mark.parametrize("proxy", [MESHD, ENVOY])
def test_connections(world: World, case: Case, proxy: str) -> None:
    _check(world, proxy, case)


@_CASE
def test_conditions(world: World, case: Case) -> None:
    told = {(each.kind, each.name): each for each in world.lab.status().objects}
    for spec in case.routes:
        route = case.route(spec)
        (parent,) = told[route["kind"], route["metadata"]["name"]].parents
        assert {each.type: each.reason for each in parent.conditions} == case.conditions
        assert all(each.status == (each.reason == each.type) for each in parent.conditions)


def test_a_grant_that_is_withdrawn(world: World, tmp_path: Path) -> None:
    """What TCPRouteReferenceGrant ends with."""
    (case,) = (each for each in CASES if each.name == "TCPRouteReferenceGrant")
    without = msgspec.structs.replace(case, connections=(Connection(),))
    file = tmp_path / "grant.json"
    file.write_text(json.dumps(case.grant_objects()[0]))

    def hold(expected: Case) -> bool:
        for proxy in (MESHD, ENVOY):
            _check(world, proxy, expected)
        return True

    world.lab.run("delete", "-f", str(file))
    try:
        until(lambda: hold(without))
    finally:
        world.lab.run("apply", "-f", str(file))
    until(lambda: hold(case))
