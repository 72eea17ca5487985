from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.loading.pins import Pins
from tests.datapath.mesh import PORT, Mesh
from tests.proxy.http1.ways import FastPath, Plain, Way
from tests.support.cgroup import own_cgroup
from tests.support.netns import namespace

_ALL, _CARRIED = 100, 35
"""Most tests are of what the kernel leaves to the proxy, or send one request."""


class Tally:
    """What the kernel carried of all tests' requests to its end."""

    def __init__(self) -> None:
        self.tests = 0
        self.requests = 0


@pytest.fixture(scope="package")
def datapath() -> Iterator[Datapath]:
    name = f"mt-{secrets.token_hex(4)}"
    try:
        with own_cgroup() as cgroup:
            opened = ensure_loaded(name, cgroup, heartbeat_timeout=60.0, fast_path=True)
            try:
                yield opened
            finally:
                opened.close()
    finally:
        shutil.rmtree(Pins(name).folder, ignore_errors=True)
        shutil.rmtree(Path("/run/meshd") / name, ignore_errors=True)


@pytest.fixture(scope="package")
def tally() -> Iterator[Tally]:
    """Holds that the tests with the fast path are with the fast path, when all of them ran."""
    found = Tally()
    yield found
    assert found.tests < _ALL or found.requests >= _CARRIED, f"the kernel carried {found.requests} requests"


@pytest.fixture(params=["plain", "fast path"])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    """A test that takes it must not see which of the two it is."""
    if request.param == "plain":
        yield Plain()
        return
    datapath: Datapath = request.getfixturevalue("datapath")
    tally: Tally = request.getfixturevalue("tally")
    with namespace() as pod, Mesh(datapath, pod) as mesh:
        datapath.set_member(pod.cookie, PORT, ipv6=True, fast_path=True)
        with pod.entered():
            fast = FastPath(mesh)
            yield fast
        tally.tests += 1
        tally.requests += fast.requests
