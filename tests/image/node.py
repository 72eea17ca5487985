"""A node of a cluster: the chart's pods from the image on a real containerd, and two pods of a user."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meshd.control.token_review import NODE_NAME
from meshd.datapath.kernel import cgroup
from tests.chart.rendering import NAMESPACE, Object, objects, one
from tests.kube_api.server import Server
from tests.kube_api.thread import ApiThread, api_thread
from tests.support.certificates import Authority
from tests.support.containerd import Containerd, running_containerd
from tests.support.kubelet import Kubelet
from tests.support.lab import until

NODE, SUBNET = "here", "10.211.6"
GATEWAY, VIP = f"{SUBNET}.1", "10.96.43.7"
HOST = f"meshd-control.{NAMESPACE}.svc"
AGENT = "meshd-agent"
REVIEW = {
    "authenticated": True,
    "user": {
        "username": f"system:serviceaccount:{NAMESPACE}:{AGENT}",
        "extra": {NODE_NAME: [NODE]},
    },
    "audiences": ["meshd-control"],
}
SERVER = "python3 -m http.server --directory /usr/share/common-licenses --protocol HTTP/1.1 8080"
_TERMINATION_SECONDS = 30


class Node:
    """One that runs, with its agent's pod."""

    def __init__(
        self, containerd: Containerd, api: ApiThread, instance: str, folder: Path, image: str
    ) -> None:
        """``folder``: of the API server's certificate, and for volumes."""
        self.containerd = containerd
        self.instance = instance
        self._api = api
        self._folder = folder
        values = {
            "agent": {
                "workers": 1,
                "cgroupPath": str(cgroup.root()),
                "runtime": {"socket": str(containerd.socket)},
                "extraArgs": ["--instance", instance],
            },
            "control": {"replicas": 1},
        }
        self._rendered = objects(values)
        configs, secret = _data(self._rendered, "ConfigMap"), _data(self._rendered, "Secret")
        account = {"token": "own-token", "namespace": NAMESPACE, "ca.crt": (folder / "ca.pem").read_text()}
        self._kubelet = Kubelet(
            containerd, NODE, folder / "volumes", configs, secret,
            tokens={AGENT: {"meshd-control": "agent-token"}},
            service_account=account,
            environment={"KUBERNETES_SERVICE_HOST": GATEWAY, "KUBERNETES_SERVICE_PORT": api.port},
        )  # fmt: skip
        template = one(self._rendered, "Deployment", "meshd-control")["spec"]["template"]
        control = self._kubelet.start(template, "meshd-control", NAMESPACE, image)
        self._kubelet.hosts[HOST] = containerd.address(control)
        self.start_agent(image)
        web, client = containerd.run_pod("web"), containerd.run_pod("client")
        containerd.run_container(web, SERVER.split())
        self.client = containerd.run_container(client, ["sleep", "900"])
        self._publish(containerd.address(web))
        until(lambda: {"web", "client"} <= {e["name"] for e in self.ask("workloads") if e["enrolled"]}, 60)
        until(lambda: any(each["name"] == "default/web:80" for each in self.ask("services")), 60)

    def start_agent(self, image: str) -> None:
        """The DaemonSet's pod, until it is ready."""
        template = one(self._rendered, "DaemonSet", AGENT)["spec"]["template"]
        self._agent = self._kubelet.start(template, AGENT, NAMESPACE, image)

    def end_agent(self) -> None:
        """As kubelet ends a pod."""
        self.containerd.stop_container(self._agent.containers[-1], _TERMINATION_SECONDS)
        self.containerd.remove_pod(self._agent)
        shutil.rmtree(self._folder / "volumes" / AGENT)

    def delete_daemonset(self) -> None:
        """What ``helm uninstall`` does first."""
        self._api.do(self._api.server.delete("daemonsets", AGENT, NAMESPACE))

    def ask(self, command: str) -> Any:
        """What one of meshd's commands prints, in the agent's container."""
        text = self.containerd.execute(
            self._agent.containers[-1], "meshd", command, "--instance", self.instance, "-o", "json"
        )
        node = json.loads(text)["nodes"][0]
        return node.get(command, node)

    def worker_pids(self) -> set[int]:
        """Of those that serve."""
        return {each["pid"] for each in self.ask("status")["workers"] if each["state"] == "serving"}

    def _publish(self, address: str) -> None:
        """The Service of the user's pod."""
        ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
        spec = {"clusterIP": VIP, "clusterIPs": [VIP], "ipFamilies": ["IPv4"], "ports": ports}
        self._api.do(self._api.server.put("services", "web", spec=spec))
        slice_: dict[str, Any] = {
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "nodeName": NODE}],
        }
        labels = {"kubernetes.io/service-name": "web"}
        self._api.do(self._api.server.put("endpointslices", "web-1", labels=labels, **slice_))


@contextlib.contextmanager
def running_node(folder: Path, images: Path, image: str, instance: str) -> Iterator[Node]:
    """One for the body. ``images``: to be loaded; ``image``: of them, for the chart's pods."""
    signed = Authority(folder).sign("api", f"IP:{GATEWAY}")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(signed.certificate, signed.key)
    server = Server()
    server.tokens["agent-token"] = REVIEW
    with api_thread(server, tls, "0.0.0.0") as api:
        api.do(server.put("daemonsets", AGENT, NAMESPACE))
        api.do(server.put("namespaces", "default", "", labels={"meshd.io/mesh": "enabled"}))
        try:
            # containerd ends before the API server, so that nobody is on the way to that when it ends.
            with running_containerd(SUBNET) as containerd:
                containerd.import_image(images)
                yield Node(containerd, api, instance, folder, image)
        finally:
            cleanup = (sys.executable, "-m", "meshd", "cleanup", "--instance", instance)
            subprocess.run(cleanup, check=True)


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
