"""A lab ends without a trace, whatever was killed before, and labs do not meet."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import leftovers
from tests.lab.conftest import PODS
from tests.support.lab import Lab

_SIX = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: idle}
spec:
  replicas: 6
  selector: {matchLabels: {app: idle}}
  template:
    metadata: {labels: {app: idle}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: a, command: [sleep, infinity]}]}
"""
_MODES = ("none", "meshd")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab that is not up."""
    lab = Lab(f"t{secrets.token_hex(3)}")
    try:
        yield lab
    finally:
        lab.run("down", check=False)


@pytest.mark.parametrize("mode", _MODES)
def test_down_leaves_nothing(lab: Lab, mode: str, tmp_path: Path) -> None:
    manifest = tmp_path / "six.yaml"
    manifest.write_text(_SIX)
    lab.run("up", "--nodes", "2", "--mode", mode, "-f", str(manifest))
    assert sum(pod["ready"] for pod in lab.cluster()["pods"]) == 6
    found = leftovers.of_lab(lab.name)
    assert len(found["namespaces"]) == 9
    assert {"cgroups", "folders", "processes"} <= found.keys()
    lab.run("down")
    assert leftovers.of_lab(lab.name) == {}


@pytest.mark.parametrize(
    ("mode", "victims"),
    [
        ("none", "supervisor"),
        ("meshd", "supervisor"),
        ("meshd", "node1"),
        ("meshd", ""),
        ("sidecar", "node1"),
        ("node-proxy-sockmap", ""),
    ],
)
def test_down_leaves_nothing_after_kill_9(lab: Lab, mode: str, victims: str) -> None:
    lab.run("up", "--nodes", "2", "--mode", mode, "-f", str(PODS))
    killed = leftovers.pids(lab.name, victims)
    assert killed
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):  # its supervisor ended it, having seen another end
            os.kill(pid, signal.SIGKILL)
    assert lab.run("down").stdout == f"lab {lab.name} is down\n"
    assert leftovers.of_lab(lab.name) == {}


def test_up_sweeps_a_dead_lab_of_the_same_name(lab: Lab) -> None:
    lab.run("up", "--mode", "none", "--nodes", "2", "-f", str(PODS))
    for pid in leftovers.pids(lab.name, "supervisor"):
        os.kill(pid, signal.SIGKILL)
    done = lab.run("status", check=False)
    assert done.returncode == 1
    assert "is not running" in done.stderr
    lab.run("up", "--mode", "none", "--nodes", "2", "-f", str(PODS))
    assert lab.curl("http://far/") == "far\n"


def test_two_labs_at_once_do_not_meet(lab: Lab, plain_lab: Lab) -> None:
    lab.run("up", "--mode", "none", "--nodes", "2", "-f", str(PODS))
    assert lab.pod("far")["ip"] == plain_lab.pod("far")["ip"]
    assert lab.curl("http://far/") == plain_lab.curl("http://far/") == "far\n"
    lab.run("down")
    assert leftovers.of_lab(lab.name) == {}
    assert plain_lab.curl("http://far/") == "far\n"
    assert "namespaces" in leftovers.of_lab(plain_lab.name)


def test_a_container_that_ignores_sigterm_is_killed(lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "stubborn.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: stubborn}\nspec: {terminationGracePeriodSeconds: 60, "
        "containers: [{name: a, command: [sh, -c, \"trap '' TERM; while :; do sleep 1; done\"]}]}\n"
    )
    lab.run("up", "--mode", "none", "-f", str(manifest))
    began = time.monotonic()
    lab.run("down")
    assert time.monotonic() - began < 50  # it was to have 60 s
    assert leftovers.of_lab(lab.name) == {}
