"""What happens while a lab runs: readiness, rollouts, crashes, changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.lab.names import Lab as LabNames
from tests.lab.conftest import PODS
from tests.lab.leftovers import pids
from tests.support.lab import MESHD, Lab, running_lab, until

_DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: server
          command: [/usr/bin/python3, server.py]
          workingDir: {folder}
          env: [{{name: NAME, value: {version}}}]
          ports: [{{name: web, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /ready, port: web}}, periodSeconds: 1}}
          lifecycle: {{preStop: {{sleep: {{seconds: 1}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: web}}]}}
"""

_CRASHING = """
apiVersion: v1
kind: Pod
metadata: {name: crashing}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: a, command: [sh, -c, "echo run; exit 3"]}]
"""

_GUEST = """
apiVersion: v1
kind: Pod
metadata: {name: guest}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: a
      command: [sleep, infinity]
      readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
"""

_ONCE = """
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  containers: [{name: a, command: [sh, -c, "echo $POD_IP $NODE"], env: [
    {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
    {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]}]
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab whose pods come and go."""
    with running_lab(PODS, mode="none") as running:
        yield running


def _deploy(lab: Lab, folder: Path, version: str, replicas: int, *more: str) -> str:
    manifest = folder / "web.yaml"
    manifest.write_text(_DEPLOYMENT.format(version=version, replicas=replicas, folder=PODS.parent))
    return lab.run("apply", "-f", str(manifest), *more).stdout


def _pods(lab: Lab, prefix: str) -> list[str]:
    return [pod["name"] for pod in lab.cluster()["pods"] if pod["name"].startswith(prefix)]


def test_readiness_drives_the_endpoints(lab: Lab) -> None:
    def answers() -> set[str]:
        script = "for i in 1 2 3 4 5 6 7 8; do curl -s http://all/; done"
        return set(lab.exec("client", "sh", "-c", script).split())

    near = lab.pod("near")["ip"]
    until(lambda: answers() == {"near", "far"})
    lab.curl(f"http://{near}:8080/ready/no")
    until(lambda: not lab.pod("near")["ready"])
    until(lambda: answers() == {"far"})
    assert lab.code("http://near/") == "000"
    assert "near" not in lab.exec("client", "getent", "ahostsv4", "pods")
    lab.curl(f"http://{near}:8080/ready/yes")
    until(lambda: lab.pod("near")["ready"])
    until(lambda: answers() == {"near", "far"})


def test_a_rollout_loses_no_request(lab: Lab, tmp_path: Path) -> None:
    _deploy(lab, tmp_path, "v1", 2, "--wait", "60")
    assert len(_pods(lab, "web-")) == 2
    script = "while [ ! -e $0 ]; do curl -sS --max-time 5 http://web/ || echo failed; done"
    done = tmp_path / "done"
    with subprocess.Popen(
        [*MESHD, "lab", "--name", lab.name, "exec", "client", "--", "sh", "-c", script, str(done)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as load:
        time.sleep(0.3)  # requests of the old version
        try:
            assert "Deployment default/web configured" in _deploy(lab, tmp_path, "v2", 2, "--wait", "60")
            until(lambda: len(_pods(lab, "web-")) == 2)
        finally:
            done.touch()
        output, _ = load.communicate(timeout=100)
    answers = Counter(output.split())
    assert set(answers) == {"v1", "v2"}, answers
    assert lab.curl("http://web/") == "v2\n"


def test_the_gateways_mac_address_does_not_depend_on_the_pods(lab: Lab) -> None:
    # A bridge takes its lowest port's, so another one at times when a pod comes, unless it has its own.
    for number in (1, 2):
        namespace = LabNames(lab.name).netns(f"node{number}")
        link = subprocess.run(
            ["ip", "-json", "-netns", namespace.name, "link", "show"], capture_output=True, check=True
        )
        (mac,) = {each["address"] for each in json.loads(link.stdout) if each["ifname"] == "pods"}
        assert mac == f"02:00:0a:f4:{number:02x}:01"


def test_a_deployment_is_scaled_and_deleted(lab: Lab, tmp_path: Path) -> None:
    _deploy(lab, tmp_path, "v2", 3, "--wait", "60")
    nodes = Counter(pod["node"] for pod in lab.cluster()["pods"] if pod["name"].startswith("web-"))
    assert min(nodes.values()) >= 1
    assert (
        _deploy(lab, tmp_path, "v2", 3) == "Deployment default/web unchanged\nService default/web unchanged\n"
    )
    _deploy(lab, tmp_path, "v2", 1)
    until(lambda: len(_pods(lab, "web-")) == 1)
    assert "deleted" in lab.run("delete", "-f", str(tmp_path / "web.yaml")).stdout
    until(lambda: not _pods(lab, "web-"))
    assert lab.code("http://web/") == "000"


def test_a_crashing_container_is_started_again_and_said_so(lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(_CRASHING)
    done = lab.run("apply", "-f", str(manifest), "--wait", "1.5", check=False)
    assert done.returncode == 1
    assert "pod default/crashing: a: exit code 3; started again in" in done.stderr
    until(lambda: lab.run("logs", "crashing").stdout.count("run") >= 2)
    lab.run("delete", "-f", str(manifest))
    until(lambda: not _pods(lab, "crashing"))


def test_a_pod_that_runs_once(lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(_ONCE)
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    pod = lab.pod("once")
    until(lambda: lab.run("logs", "once").stdout == f"{pod['ip']} {pod['node']}\n")
    until(lambda: "Succeeded" in lab.run("status").stdout)


def test_a_killed_container_comes_back(lab: Lab) -> None:
    (pid,) = pids(lab.name, "node2/pods/default_far")
    os.kill(pid, signal.SIGKILL)
    until(lambda: pids(lab.name, "node2/pods/default_far") not in ([], [pid]))
    until(lambda: lab.code("http://far/") == "200")


def test_pods_that_come_and_go_leave_nothing_in_the_supervisor(lab: Lab, tmp_path: Path) -> None:
    (supervisor,) = pids(lab.name, "supervisor")
    manifest = tmp_path / "pod.yaml"
    manifest.write_text(_GUEST)

    def come_and_go() -> None:
        lab.run("apply", "-f", str(manifest), "--wait", "60")
        lab.run("delete", "-f", str(manifest))
        until(lambda: not _pods(lab, "guest"))

    come_and_go()
    before = _fds(supervisor)
    for _ in range(5):
        come_and_go()
    until(lambda: _fds(supervisor) == before)
    assert [
        p.name for p in LabNames(lab.name).state_dir.joinpath("pods").iterdir() if "guest" in p.name
    ] == []
    assert not [p for p in Path("/run/netns").iterdir() if p.name == f"meshd-{lab.name}-p-default-guest"]


def _fds(pid: int) -> Counter[str]:
    """What a process has open, by kind: socket, anon_inode, and the names of files."""
    return Counter(str(path.readlink()).partition(":")[0] for path in Path(f"/proc/{pid}/fd").iterdir())
