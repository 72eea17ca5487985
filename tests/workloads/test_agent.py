"""The agent on a real containerd: its pods' requests are routed, and then carried by the kernel."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.containerd import Containerd, running_containerd
from tests.support.lab import until
from tests.support.mesh_node import MESHD, MeshNode

VIP = "10.96.41.7"
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  {clusterIP: %s, clusterIPs: [%s], ipFamilies: [IPv4], ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["%s"], conditions: {ready: true}, nodeName: here}]
"""
_SERVER = "python3 -m http.server --directory /usr/share/common-licenses --protocol HTTP/1.1 8080"
_CLIENT = """
import http.client
server = http.client.HTTPConnection("%s", timeout=20)
for _ in range(200):
    server.request("GET", "/BSD")
    answer = server.getresponse()
    assert answer.status == 200 and b"University of California" in answer.read()
"""


_OLD = """
import itertools, socket, time
sock = socket.create_connection(("%s", 8080), 20)
for number in itertools.count():
    sock.sendall(b"HEAD /BSD HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
    answer = b""
    while b"\\r\\n\\r\\n" not in answer:
        answer += sock.recv(4096) or exit("closed")
    print("answered", number, flush=True)
    time.sleep(0.1)
"""
"""On one connection as long as it lasts."""


@contextmanager
def control(folder: Path, socket: Path) -> Iterator[None]:
    listen = ("--listen", "127.0.0.1:0", "--uds", str(socket))
    process = subprocess.Popen((*MESHD, "control", "--manifests", str(folder), *listen))
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def test_pods_of_containerd_are_meshed(tmp_path: Path) -> None:
    manifests, socket = tmp_path / "manifests", tmp_path / "control.sock"
    manifests.mkdir()
    with running_containerd("10.211.8") as containerd, control(manifests, socket):
        # These are there before the agent, and connected.
        server, client = containerd.run_pod("web"), containerd.run_pod("client")
        containerd.run_container(server, _SERVER.split())
        address = containerd.address(server)
        until(lambda: _probed(address))
        containerd.run_container(client, ["python3", "-c", _OLD % address], name="old")
        until(lambda: "answered 1\n" in containerd.container_log("old"))
        options = ("--runtime", "containerd", "--runtime-socket", str(containerd.socket), "--enrol", "all")
        with MeshNode(f"unix:{socket}", *options) as node:
            host = containerd.run_pod("node", host_network=True)
            curl = containerd.run_container(client, ["sleep", "300"])
            for uid in ("uid-web", "uid-client"):
                node.wait_for_workload(uid)
            (manifests / "web.yaml").write_text(_SERVICE % (VIP, VIP, address))
            node.wait_for_services(["default/web:80"])

            containerd.execute(curl, "python3", "-c", _CLIENT % VIP)
            until(lambda: carried(node) > 0)
            left = {each.name: each.reason for each in node.workloads() if not each.enrolled}
            assert left == {"node": "it has the node's network namespace"}

            _old_connections_go_on(containerd)
            _kubelets_probes_pass(node, address)
            _pods_that_go_at_once_leave_nothing(containerd, node)

            # Its sandbox is made anew, as kubelet does when the old one has died.
            before, old = carried(node), netns_of(node, "client")
            containerd.remove_pod(client)
            client = containerd.run_pod("client", attempt=1)
            curl = containerd.run_container(client, ["sleep", "300"])
            until(lambda: netns_of(node, "client") not in ("", old))
            containerd.execute(curl, "python3", "-c", _CLIENT % VIP)
            until(lambda: carried(node) > before)
            containerd.remove_pod(host)


def _old_connections_go_on(containerd: Containerd) -> None:
    """Opened before the pod was enrolled, and never the mesh's."""
    last = re.findall(r"answered (\d+)", containerd.container_log("old"))[-1]
    until(lambda: f"answered {int(last) + 3}\n" in containerd.container_log("old"))


def _kubelets_probes_pass(node: MeshNode, address: str) -> None:
    """From the node to the pod's address, and no proxy sees them."""
    before = [(each.requests, each.fast_requests) for each in node.services()]
    assert _probed(address)
    assert [(each.requests, each.fast_requests) for each in node.services()] == before


def _probed(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:8080/BSD", timeout=20) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _pods_that_go_at_once_leave_nothing(containerd: Containerd, node: MeshNode) -> None:
    """Found, and gone while they are enrolled or before."""
    known = {each.uid for each in node.workloads()}
    for number in range(3):
        containerd.remove_pod(containerd.run_pod(f"brief-{number}"))
    last = containerd.run_pod("last")
    node.wait_for_workload("uid-last")
    until(lambda: {each.uid for each in node.workloads()} == known | {"uid-last"})
    containerd.remove_pod(last)
    until(lambda: {each.uid for each in node.workloads()} == known)


def netns_of(node: MeshNode, name: str) -> str:
    """Empty: it is not enrolled."""
    return next((each.netns for each in node.workloads() if each.name == name and each.enrolled), "")


def carried(node: MeshNode) -> int:
    return sum(each.fast_requests for each in node.services())
