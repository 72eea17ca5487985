"""An app rolls out under traffic: no request fails, though its old pods end before all nodes have heard."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

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
