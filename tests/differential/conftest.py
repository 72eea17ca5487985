"""One world for all tests of this folder: it takes seconds to build."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.world import World, world


@pytest.fixture(scope="session")
def both() -> Iterator[World]:
    """meshd and Envoy, fed by one ADS server."""
    with world() as running:
        yield running
