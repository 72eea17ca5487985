"""Pods reach services by name and address, as kube-proxy and cluster DNS would have it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from meshd.lab.names import Lab as LabNames
from tests.support.lab import Lab

_UDP = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60); "
    "s.sendto(b'?', ('all', 53)); print(s.recv(100).decode())"
)


@pytest.mark.parametrize("name", ["near", "far"])
def test_a_service_is_reached_by_all_its_names(plain_lab: Lab, name: str) -> None:
    script = (
        f"for d in '' .default .default.svc .default.svc.cluster.local; do curl -s http://{name}$d/; done"
    )
    assert plain_lab.exec("client", "sh", "-c", script) == f"{name}\n" * 4


def test_a_service_of_another_namespace_needs_the_namespace(plain_lab: Lab) -> None:
    assert plain_lab.curl("http://stranger.other/") == "stranger\n"
    assert plain_lab.code("http://stranger/") == "000"
    assert (
        plain_lab.run("exec", "-n", "other", "stranger", "--", "curl", "-s", "http://stranger/").stdout
        == "stranger\n"
    )


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_connections_are_spread_over_the_endpoints_of_both_nodes(plain_lab: Lab, family: str) -> None:
    script = f"for i in $(seq 40); do curl {family} -s http://all/; done"
    answers = Counter(plain_lab.exec("client", "sh", "-c", script).split())
    # Of 40 draws of 1 in 2, fewer than 5 of one kind come once in a million runs.
    assert set(answers) == {"near", "far"}
    assert min(answers.values()) >= 5, answers


def test_a_single_stack_ipv6_service(plain_lab: Lab) -> None:
    assert plain_lab.service_ip("six").startswith("fd00:10:96::")
    assert plain_lab.curl("http://six/") in ("near\n", "far\n")


def test_the_cluster_ip_asked_for(plain_lab: Lab) -> None:
    assert plain_lab.service_ip("far") == "10.96.3.4"
    assert plain_lab.curl("http://10.96.3.4/") == "far\n"


def test_udp(plain_lab: Lab) -> None:
    assert plain_lab.exec("client", "/usr/bin/python3", "-c", _UDP).strip() in ("near", "far")


def test_a_headless_service_resolves_to_its_pods(plain_lab: Lab) -> None:
    found = {line.split()[0] for line in plain_lab.exec("client", "getent", "ahostsv4", "pods").splitlines()}
    assert found == {plain_lab.pod(name)["ip"] for name in ("near", "far")}


def test_pod_ips_are_reached_directly_and_show_the_caller(plain_lab: Lab) -> None:
    assert plain_lab.curl(f"http://{plain_lab.pod('far')['ip']}:8080/") == "far\n"


def test_a_pod_reaches_itself_by_its_service(plain_lab: Lab) -> None:
    assert plain_lab.curl("http://near/", pod="near") == "near\n"


@pytest.mark.parametrize(
    "url", ["http://empty/", "http://near:81/", "http://10.96.200.200/", "http://172.31.0.1/"]
)
def test_what_is_not_served_is_refused_at_once(plain_lab: Lab, url: str) -> None:
    script = f"curl -s -m 5 -w '%{{http_code}} %{{time_total}}' {url}; true"
    code, seconds = plain_lab.exec("client", "sh", "-c", script).split()
    assert code == "000"
    assert float(seconds) < 1


def test_a_service_whose_endpoints_are_given(plain_lab: Lab) -> None:
    fabric = LabNames(plain_lab.name).netns("fabric").name
    server = subprocess.Popen(
        ["ip", "netns", "exec", fabric, sys.executable, "-m", "http.server", "8099", "--bind", "172.18.0.1"],
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent,
    )
    try:
        body = plain_lab.exec(
            "client", "curl", "-s", "--retry", "20", "--retry-connrefused", "--retry-delay", "0",
            "http://given/test_traffic.py",
        )  # fmt: skip
        assert "A service whose endpoints are given" in body.replace("_", " ").replace("test a", "A")
    finally:
        server.kill()
        server.wait()


def test_a_node_reaches_services_too(plain_lab: Lab) -> None:
    node = LabNames(plain_lab.name).netns("node2").name
    for address in (plain_lab.service_ip("near"), plain_lab.service_ip("far")):
        done = subprocess.run(
            ["ip", "netns", "exec", node, "curl", "-s", "-m", "5", f"http://{address}/"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout in ("near\n", "far\n")


def test_nothing_of_it_is_in_the_machines_own_namespace(plain_lab: Lab) -> None:
    links = {name for _, name in socket.if_nameindex()}
    assert not links & {"fabric", "pods", "node1", "node2"}, plain_lab.name
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert "meshd_lab" not in rules
