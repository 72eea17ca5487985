"""Go's net/http as client, server and proxy, and its io.Copy, which calls splice(2)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PODS
from tests.support.lab import Lab, running_lab, until

POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  containers:
    - name: app
      command: [./gopod, {command}]
      ports: [{{name: http, containerPort: 8080}}]
      readinessProbe: {{exec: {{command: [sh, -c, "ss -Hltn | grep -q :8080"]}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
"""
CLIENT = """\
apiVersion: v1
kind: Pod
metadata: {name: client, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: client, command: [sleep, "3600"]}]}
"""
PODS_OF = {
    "near": ("node1", "serve"),
    "far": ("node2", "serve"),
    "reverse": ("node1", '"reverse", "http://near/"'),
    "relay": ("node1", '"relay", "near:80"'),
}
TIMES = 20


@pytest.fixture(scope="module")
def gopod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    made = tmp_path_factory.mktemp("go") / "gopod"
    subprocess.run(
        ["go", "build", "-o", str(made), str(PODS / "gopod.go")],
        env={**os.environ, "GO111MODULE": "off", "GOCACHE": str(made.parent / "cache")},
        check=True,
        timeout=100,
    )
    return made


@pytest.fixture(scope="module")
def lab(gopod: Path) -> Iterator[Lab]:
    manifest = gopod.parent / "pods.yaml"
    pods = (POD.format(name=name, node=node, command=how) for name, (node, how) in PODS_OF.items())
    manifest.write_text("".join(pods) + CLIENT)
    with running_lab(manifest) as running:
        assert running.status().capture.fast_path == "full"
        yield running


def _carried(lab: Lab, service: str) -> int:
    return next(s.fast_requests for s in lab.services() if s.name == f"default/{service}:80")


@pytest.mark.parametrize("service", ["near", "far"])
def test_requests_on_one_connection(lab: Lab, gopod: Path, service: str) -> None:
    before = _carried(lab, service)
    output = lab.exec("client", str(gopod), "fetch", f"http://{service}/echo?x=1", str(TIMES))
    answers = [json.loads(line) for line in output.splitlines()]
    assert [answer["method"] for answer in answers] == ["GET", "POST"] * TIMES
    expected = hashlib.sha256(bytes(100000)).hexdigest()
    assert {(a["length"], a["sha256"]) for a in answers[1::2]} == {(100000, expected)}
    assert len({answer["headers"]["x-request-id"] for answer in answers}) == 2 * TIMES
    assert _carried(lab, service) - before >= TIMES // 2


@pytest.mark.parametrize("service", ["near", "far"])
def test_a_pool_of_connections(lab: Lab, gopod: Path, service: str) -> None:
    before = _carried(lab, service)
    output = lab.exec("client", str(gopod), "pool", f"http://{service}/", "600", "12")
    assert output.strip() == "600"
    assert _carried(lab, service) - before >= 100  # many bodies are the proxy's


def test_apache_bench(lab: Lab) -> None:
    for service in ("near", "far"):
        before = _carried(lab, service)
        output = lab.exec("client", "ab", "-q", "-k", "-l", "-n", "3000", "-c", "16", f"http://{service}/")
        fields = dict(line.split(":", 1) for line in output.splitlines() if ":" in line)
        assert fields["Complete requests"].strip() == "3000"
        assert fields["Failed requests"].strip() == "0"
        assert "Non-2xx responses" not in fields
        assert _carried(lab, service) == before  # it speaks HTTP/1.0
    output = lab.exec("client", "wrk", "-t1", "-c16", "-d1s", "http://near/")
    assert "Non-2xx" not in output
    assert "Socket errors" not in output


def _download(lab: Lab, service: str, size: int) -> bool:
    """Whether a body of zeros comes whole."""
    script = f"curl -sS --max-time 15 http://{service}/bytes/{size} | sha256sum"
    found = lab.exec("client", "sh", "-c", script, check=False).split()[0]
    return found == hashlib.sha256(bytes(size)).hexdigest()


def test_gos_reverse_proxy(lab: Lab, gopod: Path) -> None:
    """A server to the client and a client to the server: both ends of it are the mesh's."""
    answers = lab.exec("client", str(gopod), "fetch", "http://reverse/", str(TIMES)).splitlines()
    assert [json.loads(answer)["method"] for answer in answers] == ["GET", "POST"] * TIMES
    assert lab.exec("client", str(gopod), "pool", "http://reverse/", "300", "8").strip() == "300"
    for size in (0, 1, 100_000, 3_000_000):
        assert _download(lab, "reverse", size)
    assert {w.fast_path for w in lab.workloads() if w.name == "reverse"} == {"on"}


def test_a_relay_that_splices(lab: Lab, gopod: Path) -> None:
    """It is noticed at its first call: all bytes come, and nobody hangs, from its first connection on.

    Which is ours: nobody has probed its readiness by a connection.
    """
    assert {w.fast_path for w in lab.workloads() if w.name == "relay"} == {"on"}
    answers = lab.exec("client", str(gopod), "fetch", "http://relay/", "2").splitlines()
    assert [json.loads(answer)["method"] for answer in answers] == ["GET", "POST"] * 2
    until(lambda: {w.fast_path for w in lab.workloads() if w.name == "relay"} == {"off"})
    (reason,) = (w.fast_path_reason for w in lab.workloads() if w.name == "relay")
    assert "splice" in reason
    assert lab.exec("client", str(gopod), "pool", "http://relay/", "300", "8").strip() == "300"
    for size in (0, 1, 100_000, 3_000_000, 50_000_000):
        assert _download(lab, "relay", size)
    assert {w.fast_path for w in lab.workloads() if w.name in ("client", "near")} == {"on"}
