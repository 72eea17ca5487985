"""The official conformance suite's HTTPRoute cases: behind meshd, and behind Envoy fed by meshd control."""

from __future__ import annotations

import pytest

from tests.conformance.cases import CASES, Case
from tests.conformance.world import ENVOY, MESHD, World


@pytest.mark.parametrize("proxy", [MESHD, ENVOY])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_requests(world: World, case: Case, proxy: str) -> None:
    world.check(proxy, case)


@pytest.mark.parametrize("case", [c for c in CASES if c.conditions], ids=lambda case: case.name)
def test_conditions(world: World, case: Case) -> None:
    objects = world.lab.status().objects
    (status,) = (each for each in objects if (each.kind, each.name) == ("HTTPRoute", case.slug))
    (parent,) = status.parents
    assert {c.type: c.reason for c in parent.conditions} == case.conditions
    for condition in parent.conditions:
        assert condition.status == (condition.reason == condition.type)
