"""meshd and a real Envoy, given the same ADS resources, answer the same requests alike."""

from __future__ import annotations

import pytest

from tests.differential.cases import TABLE, Case
from tests.differential.world import World


@pytest.fixture(scope="session")
def ports(both: World) -> dict[str, int]:
    """A listener for each case of the table."""
    return dict(zip((case.name for case in TABLE), both.serve(c.virtual_hosts for c in TABLE), strict=True))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_same_answers(both: World, ports: dict[str, int], case: Case) -> None:
    for request in case.requests:
        outcomes = both.ask(ports[case.name], request)
        assert outcomes["meshd"] == outcomes["Envoy"], request
