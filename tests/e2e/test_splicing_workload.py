"""A workload that calls splice(2) on a connection of the mesh is noticed and taken off the fast path."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.lab import MESHD, running_lab, until

PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: splicer, namespace: default}}
spec: {{containers: [{{name: app, image: none, command: [sleep, infinity]}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: careful, namespace: default, annotations: {{meshd.io/fast-path: "off"}}}}
spec: {{containers: [{{name: app, image: none, command: [sleep, infinity]}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: default, labels: {{app: web}}}}
spec:
  containers:
  - {{name: app, image: none, command: [{python}, -m, http.server, "8080"], ports: [{{containerPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080, appProtocol: http}}]}}
"""
SPLICER = """
import os, socket, time
sock = socket.create_connection(("web.default", 80))
sock.setblocking(False)
_, into = os.pipe()
while True:
    try:
        os.splice(sock.fileno(), into, 100)
    except BlockingIOError:
        pass
    time.sleep(0.01)
"""


def test_a_workload_that_splices_is_taken_off(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(PODS.format(python=sys.executable))
    with running_lab(manifest, nodes=1) as lab:

        def shown() -> dict[str, str]:
            return {workload.name: workload.fast_path for workload in lab.workloads()}

        assert lab.status().capture.fast_path == "full"
        assert shown() == {"splicer": "on", "careful": "off", "web": "on"}
        assert lab.status().capture.splice_watch == "waits for a connection"
        command = [*MESHD, "lab", "--name", lab.name, "exec", "splicer", "--", sys.executable, "-c", SPLICER]
        with subprocess.Popen(command) as splicer:
            try:
                until(lambda: shown()["splicer"] == "off")
            finally:
                splicer.kill()
        assert lab.status().capture.splice_watch == "on"
        (reason,) = (each.fast_path_reason for each in lab.workloads() if each.name == "splicer")
        assert "splice" in reason
        assert shown() == {"splicer": "off", "careful": "off", "web": "on"}


def test_the_lab_may_be_without_a_fast_path(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(PODS.format(python=sys.executable))
    with running_lab(manifest, nodes=1, more=("--fast-path", "off")) as lab:
        capture = lab.status().capture
        assert (capture.fast_path, capture.fast_path_reason) == ("off", "--fast-path off")
