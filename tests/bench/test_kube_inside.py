"""What a Job's pod does, in pods of a lab: a load is run, if the way to the service is the one to measure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.bench import manifests
from meshd.bench.kube.task import Finding, Task, argument, finding
from meshd.bench.plan import Load
from tests.support.lab import Lab, running_lab

LOAD = Load("same-node", connections=4, body_bytes=1024, route=True)


@pytest.fixture(scope="module", params=["none", "meshd"])
def lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Lab]]:
    folder: Path = tmp_path_factory.mktemp("pods")
    manifest = manifests.write(folder, (1024, 16384), 1, "meshd-slow")
    with running_lab(manifest, nodes=1, mode=request.param) as found:
        yield request.param, found


def perform(lab: Lab, given: Task) -> Finding:
    command = (sys.executable, "-m", "meshd.bench.kube.inside", argument(given))
    return finding(lab.run("exec", "client", "--", *command, check=False, timeout=100).stdout)


@pytest.mark.parametrize(
    "load", [LOAD, Load("same-node", 4, 16384, rate=200), Load("same-node", 4, 1024, "grpc", True)], ids=str
)
def test_a_load_is_measured(lab: tuple[str, Lab], load: Load) -> None:
    mode, running = lab
    found = perform(running, Task(load, 3, 1, "by meshd" if mode == "meshd" else "by nobody else"))
    assert (found.failed, found.wrong) == ("", "")
    assert found.round is not None
    assert found.machine is not None
    assert (found.round.round, found.round.errors) == (3, 0)
    assert found.round.rps is not None
    assert found.round.cpu_us_per_request is None, "a pod cannot know it"
    answers = sum(count for _, count in found.latencies)
    assert 0.2 < answers / found.round.rps < 5, "it ran for a second, or somewhat longer"


def test_the_other_way_is_not_measured(lab: tuple[str, Lab]) -> None:
    mode, running = lab
    found = perform(running, Task(LOAD, 1, 1, "by nobody else" if mode == "meshd" else "by meshd", 1.0))
    assert found.round is None
    assert ("captures its connections, though" if mode == "meshd" else "does not capture") in found.failed
