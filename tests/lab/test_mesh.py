"""A lab with the mesh: which pods are in it, and what stays as it was for the others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.lab.names import Lab as LabNames
from tests.lab.conftest import PODS
from tests.support.lab import Lab, running_lab, until

_OUTSIDER = """
apiVersion: v1
kind: Pod
metadata: {name: outsider, labels: {meshd.io/mesh: disabled}}
spec: {nodeName: node1, terminationGracePeriodSeconds: 1, containers: [{name: a, command: [sleep, infinity]}]}
"""
_HTTP = """
apiVersion: v1
kind: Service
metadata: {name: routed}
spec: {selector: {group: all}, ports: [{name: http, port: 80, targetPort: web}]}
"""
_UDP = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60); "
    "s.sendto(b'?', ('all', 53)); print(s.recv(100).decode())"
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with the mesh and a pod that is not in it."""
    manifest = tmp_path_factory.mktemp("mesh") / "more.yaml"
    manifest.write_text(f"{_OUTSIDER}---{_HTTP}")
    with running_lab(PODS, manifest) as running:
        yield running


def _rules(lab: Lab, pod: str) -> str:
    netns = LabNames(lab.name).pod_netns("default", pod).name
    return subprocess.run(
        ["ip", "netns", "exec", netns, "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout


def test_all_pods_are_enrolled_but_those_who_opt_out(lab: Lab) -> None:
    enrolled = {w.name for node in ("node1", "node2") for w in lab.workloads(node) if w.enrolled}
    assert enrolled == {"client", "near", "far", "stranger"}


def test_a_request_of_a_pod_in_the_mesh_goes_through_the_proxy(lab: Lab) -> None:
    # The server says no date, and what passes through the proxy must (RFC 9110, 6.6.1).
    until(lambda: "date:" in lab.curl("http://routed/", "-D", "-").lower())
    assert "date:" not in lab.curl("http://routed/", "-D", "-", pod="outsider").lower()


@pytest.mark.parametrize("pod", ["client", "outsider"])
def test_all_services_are_reached_from_inside_and_outside_the_mesh(lab: Lab, pod: str) -> None:
    script = "for s in near far all stranger.other; do curl -s http://$s/; done"
    near, far, either, stranger = lab.exec(pod, "sh", "-c", script).split()
    assert (near, far, stranger) == ("near", "far", "stranger")
    assert either in ("near", "far")


@pytest.mark.parametrize("pod", ["client", "outsider"])
def test_udp_services_are_kept_by_the_lab_for_all(lab: Lab, pod: str) -> None:
    assert lab.exec(pod, "/usr/bin/python3", "-c", _UDP).strip() in ("near", "far")


def test_pods_in_the_mesh_have_no_tcp_rules(lab: Lab) -> None:
    assert "tcp dport" not in _rules(lab, "client")
    assert "udp dport 53" in _rules(lab, "client")
    assert "tcp dport 80" in _rules(lab, "outsider")


def test_a_pod_that_goes_is_forgotten_by_the_agent(lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "guest.yaml"
    manifest.write_text(_OUTSIDER.replace("outsider, labels: {meshd.io/mesh: disabled}", "guest"))
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    until(lambda: any(w.name == "guest" and w.enrolled for w in lab.workloads("node1")))
    lab.run("delete", "-f", str(manifest))
    until(lambda: all(w.name != "guest" for w in lab.workloads("node1")))
