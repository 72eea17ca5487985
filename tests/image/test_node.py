"""A node: the chart's pods from the image, on a real containerd, meshing two pods of a user."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshd.datapath.kernel import cgroup
from tests.chart.rendering import NAMESPACE, Object, objects, one
from tests.kube_api.server import Server
from tests.kube_api.thread import ApiThread, api_thread
from tests.support.certificates import Authority
from tests.support.containerd import Containerd, Pod, running_containerd
from tests.support.debian import slim
from tests.support.docker import running_docker
from tests.support.kubelet import Kubelet
from tests.support.lab import until

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "meshd.test/meshd:1"
MAX_IMAGE_BYTES = 500_000_000
NODE, SUBNET = "here", "10.211.6"
GATEWAY, VIP = f"{SUBNET}.1", "10.96.43.7"
HOST = f"meshd-control.{NAMESPACE}.svc"
REVIEW = {
    "authenticated": True,
    "user": {"username": f"system:serviceaccount:{NAMESPACE}:meshd-agent"},
    "audiences": ["meshd-control"],
}
SERVER = "python3 -m http.server --directory /usr/share/common-licenses --protocol HTTP/1.1 8080"
CLIENT = f"""
import http.client
server = http.client.HTTPConnection("{VIP}", timeout=20)
for _ in range(200):
    server.request("GET", "/BSD")
    answer = server.getresponse()
    assert answer.status == 200 and b"University of California" in answer.read()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Dockerfile's, as a file, on a base of Debian's packages."""
    folder = tmp_path_factory.mktemp("image")
    base, made = folder / "base.tar", folder / "meshd.tar"
    slim(base)
    with running_docker("10.211.4.0/24") as docker:
        docker.build(ROOT, base, "debian:12-slim", IMAGE)
        assert docker.size(IMAGE) < MAX_IMAGE_BYTES
        docker.save(IMAGE, made)
    base.unlink()
    yield made
    made.unlink()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiThread]:
    authority = Authority(tmp_path)
    signed = authority.sign("api", f"IP:{GATEWAY}")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(signed.certificate, signed.key)
    server = Server()
    server.tokens["agent-token"] = REVIEW
    with api_thread(server, tls, "0.0.0.0") as running:
        running.do(server.put("namespaces", "default", "", labels={"meshd.io/mesh": "enabled"}))
        yield running


@pytest.fixture
def containerd(image: Path, api: ApiThread) -> Iterator[Containerd]:
    """It ends before the API server, so that nobody is on the way to that when it ends."""
    with running_containerd(SUBNET) as made:
        made.import_image(image)
        yield made


@pytest.fixture
def instance() -> Iterator[str]:
    name = f"mt{secrets.token_hex(4)}"
    yield name
    subprocess.run((sys.executable, "-m", "meshd", "cleanup", "--instance", name), check=True)


def test_a_node_of_a_cluster(instance: str, api: ApiThread, containerd: Containerd, tmp_path: Path) -> None:
    values = {
        "agent": {
            "workers": 1,
            "cgroupPath": str(cgroup.root()),
            "runtime": {"socket": str(containerd.socket)},
            "extraArgs": ["--instance", instance],
        },
        "control": {"replicas": 1},
    }
    rendered = objects(values)
    configs, secret = _data(rendered, "ConfigMap"), _data(rendered, "Secret")
    kubelet = Kubelet(
        containerd, NODE, tmp_path / "volumes", configs, secret,
        tokens={"meshd-agent": {"meshd-control": "agent-token"}},
        service_account={
            "token": "own-token", "namespace": NAMESPACE, "ca.crt": (tmp_path / "ca.pem").read_text(),
        },
        environment={"KUBERNETES_SERVICE_HOST": GATEWAY, "KUBERNETES_SERVICE_PORT": api.port},
    )  # fmt: skip
    control = kubelet.start(
        one(rendered, "Deployment", "meshd-control")["spec"]["template"], "meshd-control", NAMESPACE, IMAGE
    )
    kubelet.hosts[HOST] = containerd.address(control)
    agent = kubelet.start(
        one(rendered, "DaemonSet", "meshd-agent")["spec"]["template"], "meshd-agent", NAMESPACE, IMAGE
    )

    web, client = containerd.run_pod("web"), containerd.run_pod("client")
    containerd.run_container(web, SERVER.split())
    shell = containerd.run_container(client, ["sleep", "600"])
    _publish(api, containerd.address(web))
    ask = _Meshd(containerd, agent, instance)
    until(lambda: {"web", "client"} <= {each["name"] for each in ask("workloads") if each["enrolled"]}, 60)
    until(lambda: any(each["name"] == "default/web:80" for each in ask("services")), 60)

    containerd.execute(shell, "python3", "-c", CLIENT)
    until(lambda: sum(each["fast_requests"] for each in ask("services")) > 0, 60)
    assert ask("status")["failed_requests"] == 0


class _Meshd:
    """meshd's commands, in the agent's container."""

    def __init__(self, containerd: Containerd, pod: Pod, instance: str) -> None:
        self._containerd = containerd
        self._container = pod.containers[-1]
        self._instance = instance

    def __call__(self, command: str) -> Any:
        text = self._containerd.execute(
            self._container, "meshd", command, "--instance", self._instance, "-o", "json"
        )
        node = json.loads(text)["nodes"][0]
        return node.get(command, node)


def _data(rendered: list[Object], kind: str) -> dict[str, dict[str, str]]:
    """The files of ConfigMaps, or of Secrets, by the objects' names."""
    return {
        each["metadata"]["name"]: {
            key: base64.b64decode(text).decode() if kind == "Secret" else text
            for key, text in each.get("data", {}).items()
        }
        for each in rendered
        if each["kind"] == kind
    }


def _publish(api: ApiThread, address: str) -> None:
    """The Service of the user's pod."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    spec = {"clusterIP": VIP, "clusterIPs": [VIP], "ipFamilies": ["IPv4"], "ports": ports}
    api.do(api.server.put("services", "web", spec=spec))
    slice_: dict[str, Any] = {
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "nodeName": NODE}],
    }
    labels = {"kubernetes.io/service-name": "web"}
    api.do(api.server.put("endpointslices", "web-1", labels=labels, **slice_))
