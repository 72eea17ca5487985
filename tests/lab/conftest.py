from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, running_lab

PODS = Path(__file__).parent / "pods" / "pods.yaml"


@pytest.fixture(scope="session")
def plain_lab() -> Iterator[Lab]:
    """A lab without the mesh, for tests that leave it as it was."""
    with running_lab(PODS, mode="none") as lab:
        yield lab
