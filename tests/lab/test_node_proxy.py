"""Modes ``node-proxy`` and ``node-proxy-sockmap``: each request crosses the Envoy of the caller's node."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.lab.decisions.addressing import NodeNet
from meshd.lab.names import Lab as LabNames
from tests.lab import envoys, leftovers
from tests.lab.conftest import PODS
from tests.support.lab import Lab, running_lab, until

_SOCKMAP = "node-proxy-sockmap"
_BODY = 3_000_000


_BOTH = pytest.mark.parametrize("mode", ["node-proxy", _SOCKMAP], indirect=True)


@pytest.fixture(scope="module", params=[_SOCKMAP])
def mode(request: pytest.FixtureRequest) -> str:
    """Without the sockmap all is the same but the wire: that is not tested twice."""
    return str(request.param)


@pytest.fixture(scope="module")
def lab(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    more = envoys.more_pods(tmp_path_factory.mktemp("node-proxy"))
    with running_lab(PODS, envoys.CANARY, more, mode=mode) as running:
        yield running
    assert leftovers.of_lab(running.name) == {}


def _all_requests(lab: Lab, node: str) -> int:
    return sum(envoys.counters(lab, node, r"^http\.[a-z]+/.*\.downstream_rq_total$").values())


@_BOTH
def test_a_request_crosses_the_envoy_of_the_callers_node_once(lab: Lab) -> None:
    before = [_all_requests(lab, node) for node in ("node1", "node2")]
    assert envoys.shares(lab, "-H", "x-user: tester", count=30) == {"v2": 30}
    after = [_all_requests(lab, node) for node in ("node1", "node2")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [30, 0]


def test_weights(lab: Lab) -> None:
    envoys.check_weights(lab)


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_the_app_sees_the_node_and_the_caller_in_x_forwarded_for(lab: Lab, family: str) -> None:
    node = NodeNet(1)
    envoys.check_peers(lab, family, {node.gateway_v4, node.gateway_v6})


def test_tcp_udp_and_what_is_outside_the_mesh(lab: Lab) -> None:
    assert lab.exec("client", "/usr/bin/python3", "-c", envoys.LISTEN) == "server first\n"
    assert lab.exec("client", "/usr/bin/python3", "-c", envoys.UDP).strip() in ("near", "far")
    assert lab.curl("http://near/", pod="near") == "near\n"
    assert lab.curl("http://far/") == "far\n"
    before = _all_requests(lab, "node1")
    assert lab.curl("http://web-v2/", pod="outsider") == "v2\n"
    assert _all_requests(lab, "node1") == before


def test_a_route_is_changed_live(lab: Lab, tmp_path: Path) -> None:
    envoys.check_live_change(lab, tmp_path / "route.yaml")


@_BOTH
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6"])
def test_a_sockmap_takes_the_legs_off_the_wire_and_changes_no_byte(lab: Lab, mode: str, family: str) -> None:
    before = [_bytes(lab, pod) for pod in ("client", "mirror")]
    assert lab.exec("client", "/usr/bin/python3", "-c", _LONG.replace("FAMILY", family)) == "same\n"
    crossed = [_bytes(lab, pod) - b for pod, b in zip(("client", "mirror"), before, strict=True)]
    if mode == _SOCKMAP:
        assert max(crossed) < _BODY / 10  # handshakes and the like
    else:
        assert min(crossed) > 2 * _BODY


# The first request of each connection may begin before the other end is known: it is short.
_LONG = f"""
import hashlib, http.client, os, socket
name = socket.getaddrinfo("mirror", 80, socket.FAMILY)[0][4][0]
connection = http.client.HTTPConnection(name, 80, timeout=60)
connection.request("GET", "/")
connection.getresponse().read()
body = os.urandom({_BODY})
connection.request("POST", "/", body)
answer = connection.getresponse().read()
print("same" if answer == hashlib.sha256(body).hexdigest().encode() + body else "different")
"""


def _bytes(lab: Lab, pod: str) -> int:
    """What has crossed a pod's veth, in both directions."""
    line = next(line for line in lab.exec(pod, "cat", "/proc/self/net/dev").splitlines() if "eth0:" in line)
    fields = line.split(":")[1].split()
    return int(fields[0]) + int(fields[8])


def test_connections_of_many_threads_are_not_mixed_up(lab: Lab) -> None:
    assert lab.exec("client", "/usr/bin/python3", "-c", _MANY) == "160 answers\n"


_MANY = """
import hashlib, http.client, os, random, threading
answers = []
def talk():
    for _ in range(20):
        body = os.urandom(random.choice((0, 1, 1000, 70000)))
        connection = http.client.HTTPConnection("mirror", 80, timeout=60)
        connection.request("POST", "/", body)
        answer = connection.getresponse().read()
        connection.close()
        if answer == hashlib.sha256(body).hexdigest().encode() + body:
            answers.append(1)
threads = [threading.Thread(target=talk) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(answers), "answers")
"""


def test_a_killed_envoy_is_replaced(lab: Lab) -> None:
    (first,) = leftovers.pids(lab.name, "node1/envoy")
    os.kill(first, signal.SIGKILL)
    until(lambda: leftovers.pids(lab.name, "node1/envoy") not in ([first], []))
    until(lambda: lab.code("http://web/") == "200")
    assert (LabNames(lab.name).log("envoy-node1")).exists()
    assert "ready" in lab.run("status").stdout
