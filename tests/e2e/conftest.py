from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, running_lab

PODS = Path(__file__).parent / "pods"


@pytest.fixture(scope="session")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests, with this interpreter for the pods that need its packages."""
    folder = tmp_path_factory.mktemp("e2e") / "pods"
    shutil.copytree(PODS, folder)
    manifest = folder / "pods.yaml"
    manifest.write_text(manifest.read_text().replace("value: PYTHON", f"value: {sys.executable}"))
    return folder


@pytest.fixture(scope="session")
def lab(pods: Path) -> Iterator[Lab]:
    """One lab for all tests that only send traffic and do not hurt it."""
    log = ("--access-log", str(pods.parent / "access-%n.log"))
    with running_lab(pods / "pods.yaml", more=log) as running:
        yield running
