from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.loading.pins import Pins
from tests.datapath.carried import Bed, bed
from tests.datapath.mesh import Mesh
from tests.support.cgroup import own_cgroup
from tests.support.netns import namespace


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    with own_cgroup() as folder:
        yield folder


@pytest.fixture(scope="module")
def instance() -> Iterator[str]:
    name = f"mt-{secrets.token_hex(4)}"
    try:
        yield name
    finally:
        shutil.rmtree(Pins(name).folder, ignore_errors=True)
        shutil.rmtree(Path("/run/meshd") / name, ignore_errors=True)


@pytest.fixture(scope="module")
def carries() -> bool:
    """Whether the kernel may carry requests. A module whose tests are about that has a fixture of its own."""
    return False


@pytest.fixture(scope="module")
def datapath(cgroup: Path, instance: str, carries: bool) -> Iterator[Datapath]:
    # This machine may be slow.
    opened = ensure_loaded(instance, cgroup, heartbeat_timeout=60.0, fast_path=carries)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def mesh(datapath: Datapath) -> Iterator[Mesh]:
    """A member namespace with in-pod listeners, a live worker and no service."""
    with namespace() as pod, Mesh(datapath, pod) as made:
        yield made


@pytest.fixture
def beds(datapath: Datapath, mesh: Mesh) -> Iterator[Bed]:
    """Clients and servers whose connections may be armed."""
    with bed(datapath, mesh) as made:
        yield made
