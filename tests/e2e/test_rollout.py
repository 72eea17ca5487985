"""An app's pods go under traffic: as it rolls out no request fails, as one vanishes only its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.lab.names import Lab as LabNames
from meshd.lab.system import cgroup
from tests.support.lab import Lab, until

SERVER = Path(__file__).resolve().parents[2] / "examples" / "canary" / "server.py"
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: rolling}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: rolling}}}}
  template:
    metadata: {{labels: {{app: rolling}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: server
          command: [/usr/bin/python3, {server}]
          env: [{{name: VERSION, value: {version}}}]
          ports: [{{name: http, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: rolling}}
spec:
  selector: {{app: rolling}}
  ports: [{{name: http, port: 80, targetPort: http}}]
"""
ASK = """
import collections, http.client, json, sys, threading, time
versions, errors = collections.Counter(), []
def ask():
    connection = http.client.HTTPConnection("rolling", 80, timeout=60)
    while not rolled_out.is_set() or versions["two"] < LEAST:
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read().decode().strip()
            if answer.status == 200:
                versions[body] += 1
            else:
                errors.append(f"{answer.status} {body}")
        except Exception as error:
            errors.append(repr(error))
            connection.close()
        time.sleep(0.005)
LEAST = int(sys.argv[1])
rolled_out = threading.Event()
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
while versions["one"] < LEAST: time.sleep(0.01)
print("under way", flush=True)
sys.stdin.readline()
rolled_out.set()
for thread in threads: thread.join()
print(json.dumps({"versions": versions, "errors": errors}))
"""


@pytest.fixture
def rolling(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    manifest = tmp_path / "rolling.yaml"
    _write(manifest, "one")
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    until(lambda: lab.code("http://rolling/") == "200")
    yield manifest
    lab.run("delete", "-f", str(manifest))


def _write(manifest: Path, version: str) -> None:
    manifest.write_text(MANIFEST.format(server=SERVER, version=version))


def test_no_request_fails_while_an_app_rolls_out(lab: Lab, rolling: Path) -> None:
    command = lab.command("exec", "client", "--", "/usr/bin/python3", "-c", ASK, "50")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        try:
            assert asking.stdout is not None
            assert asking.stdout.readline() == "under way\n"
            _write(rolling, "two")
            lab.run("apply", "-f", str(rolling))
            until(lambda: {lab.curl("http://rolling/").strip() for _ in range(6)} == {"two"})
            output, _ = asking.communicate("rolled out\n", timeout=100)
        finally:
            asking.kill()
    report = json.loads(output)
    assert report["errors"] == []
    assert report["versions"].keys() == {"one", "two"}


HOLDING = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: holding}
spec:
  replicas: 3
  selector: {matchLabels: {app: holding}}
  template:
    metadata: {labels: {app: holding}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: server
          command: [/usr/bin/python3, holding_server.py]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: holding}
spec:
  selector: {app: holding}
  ports: [{name: http, port: 80, targetPort: http}]
"""
HOLD_AND_ASK = """
import http.client, json, sys
def ask(connection, path):
    connection.request("GET", path)
    return connection
def failure(connection):
    try:
        answer = connection.getresponse()
        answer.read()
        return None if answer.status == 200 else str(answer.status)
    except Exception as error:
        return repr(error)
def new(): return http.client.HTTPConnection("holding", 80, timeout=60)
steady = [new() for _ in range(8)]
before = [failure(ask(each, "/")) for each in steady * 6]
held = [ask(new(), "/hold") for _ in range(int(sys.argv[1]))]
print("out", flush=True)
sys.stdin.readline()
after = [failure(ask(each, "/")) for each in steady * 6]
print("asked", flush=True)
sys.stdin.readline()
print(json.dumps({"before": before, "after": after, "held": [failure(each) for each in held]}))
"""
HELD = 12


@pytest.fixture
def holding(lab: Lab, pods: Path) -> Iterator[list[dict[str, Any]]]:
    """The pods of a Deployment whose server holds what asks for it."""
    manifest = pods / "holding.yaml"
    manifest.write_text(HOLDING)
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    until(lambda: lab.code("http://holding/") == "200")
    yield [pod for pod in lab.cluster()["pods"] if pod["name"].startswith("holding-")]
    lab.run("delete", "-f", str(manifest))
    manifest.unlink()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def _vanish(lab: Lab, pod: dict[str, Any]) -> None:
    """Its processes are killed, and its network is gone: no preStop, no SIGTERM, no word to anybody."""
    names = LabNames(lab.name)
    node = names.netns(pod["node"]).name
    (inner,) = json.loads(
        _ip("-j", "-n", names.pod_netns("default", pod["name"]).name, "link", "show", "eth0")
    )
    outer = next(
        link["ifname"]
        for link in json.loads(_ip("-j", "-n", node, "link", "show"))
        if link["ifindex"] == inner["link_index"]
    )
    cgroup.kill(cgroup.find_root() / names.pod_cgroup(pod["node"], "default", pod["name"]))
    _ip("-n", node, "link", "set", outer, "down")


def test_a_pod_that_vanishes_fails_only_what_it_had(lab: Lab, holding: list[dict[str, Any]]) -> None:
    def held(pod: dict[str, Any]) -> int:
        return int(lab.curl(f"http://{pod['ip']}:8080/held"))

    command = lab.command("exec", "client", "--", "/usr/bin/python3", "-c", HOLD_AND_ASK, str(HELD))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        try:
            assert asking.stdin is not None
            assert asking.stdout is not None
            assert asking.stdout.readline() == "out\n"
            until(lambda: sum(held(pod) for pod in holding) == HELD)
            victim = max(holding, key=held)
            lost = held(victim)
            _vanish(lab, victim)
            asking.stdin.write("vanished\n")
            asking.stdin.flush()
            assert asking.stdout.readline() == "asked\n"
            for pod in holding:
                if pod is not victim:
                    lab.curl(f"http://{pod['ip']}:8080/release")
            output, _ = asking.communicate("released\n", timeout=100)
        finally:
            asking.kill()
    report = json.loads(output)
    assert set(report["before"]) == {None}
    assert set(report["after"]) == {None}, report["after"]
    assert sum(failure is not None for failure in report["held"]) <= lost, report["held"]
