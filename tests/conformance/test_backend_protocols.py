"""The suite's cases of backends that speak HTTP/2 by prior knowledge, or WebSocket."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.cases import NAMESPACE
from tests.conformance.protocol_cases import H2C, POD, WEBSOCKET
from tests.conformance.test_table import PAGE
from tests.conformance.world import ENVOY, MESHD, World
from tests.support.lab import MESHD as COMMAND

PROXIES = (MESHD, ENVOY)


def _run(world: World, proxy: str, *command: str) -> str:
    pod = [*COMMAND, "lab", "--name", world.lab.name, "exec", "-n", NAMESPACE, world.client(proxy), "--"]
    done = subprocess.run(
        [*pod, *command],
        cwd=Path(__file__).parent / "pods",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_request_by_prior_knowledge_reaches_the_backend(world: World, proxy: str) -> None:
    """So does one in HTTP/1.1, which the suite does not ask for: the backend's port decides."""
    for version, number in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1")):
        url = f"http://{H2C.lower()}.{NAMESPACE}/"
        out = _run(
            world, proxy, "curl", "-sS", "-m", "30", version, "-w", "|%{http_version} %{http_code}", url
        )
        body, _, seen = out.partition("|")
        assert seen == f"{number} 200"
        assert json.loads(body) == {"pod": POD, "protocol": "2.0", "path": "/"}


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_websocket_reaches_the_backend(world: World, proxy: str) -> None:
    url = f"ws://{WEBSOCKET.lower()}.{NAMESPACE}/ws"
    answers = json.loads(_run(world, proxy, sys.executable, "websocket_ask.py", url))
    assert answers == ["Websocket Support!", list(range(1, 8))] * 3


def test_the_cases_are_in_the_table_of_those_that_pass() -> None:
    passed, _, other = PAGE.read_text().partition("## Not passed")
    assert all(case in passed and case not in other for case in (H2C, WEBSOCKET))
