"""Real clients and servers whose requests the kernel carries: they get what they get without it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_clients_and_servers import BODY_SHA256, SERVERS, WEBSOCKET
from tests.support.lab import Lab, running_lab, until

TIMES = 12
"""A GET and a POST each."""
LEAST = 8
"""Carried, of a connection's GETs: the first is the proxy's, and so is one after a second of quiet."""


@pytest.fixture(scope="module")
def carrying(pods: Path) -> Iterator[Lab]:
    """A lab without an access log: with one each request is the proxy's."""
    with running_lab(pods / "pods.yaml") as running:
        assert running.status().capture.fast_path == "full"
        yield running


def _carried(lab: Lab, server: str) -> int:
    return next(s.fast_requests for s in lab.services() if s.name == f"default/{server}:80")


def _client(pods: Path, name: str) -> tuple[str, ...]:
    return {
        "requests": (sys.executable, str(pods / "fetch_requests.py")),
        "http.client": ("/usr/bin/python3", str(pods / "fetch_http_client.py")),
        "node": ("node", str(pods / "fetch.mjs")),
        "java": ("java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(pods / "Fetch.java")),
    }[name]


@pytest.mark.parametrize("client", ["requests", "http.client", "node", "java"])
def test_many_requests_on_one_connection(carrying: Lab, pods: Path, client: str) -> None:
    for server in SERVERS:
        before = _carried(carrying, server)
        output = carrying.exec("client", *_client(pods, client), f"http://{server}/echo?x=1", str(TIMES))
        answers = [json.loads(line) for line in output.splitlines()]
        assert [answer["method"] for answer in answers] == ["GET", "POST"] * TIMES
        assert {answer["server"] for answer in answers} == {server}
        assert len({answer["headers"]["x-request-id"] for answer in answers}) == 2 * TIMES
        if server != "nginx":
            assert {(a["length"], a["sha256"]) for a in answers[1::2]} == {(100000, BODY_SHA256)}
        assert _carried(carrying, server) - before >= LEAST


@pytest.mark.parametrize("server", SERVERS)
def test_curl(carrying: Lab, server: str) -> None:
    before = _carried(carrying, server)
    url = f"http://{server}/"
    output = carrying.curl(url, *[url] * 19, "-w", "\n%{num_connects}\n").splitlines()
    assert [json.loads(line)["server"] for line in output[::2]] == [server] * 20
    assert sum(map(int, output[1::2])) == 1
    assert _carried(carrying, server) - before >= LEAST


@pytest.mark.parametrize("server", SERVERS)
def test_nodes_agent(carrying: Lab, pods: Path, server: str) -> None:
    before = _carried(carrying, server)
    output = carrying.exec("client", "node", str(pods / "agent.mjs"), f"http://{server}/", "20")
    assert [json.loads(line)["server"] for line in output.splitlines()] == [server] * 20
    assert _carried(carrying, server) - before >= LEAST


DOWNLOADS = """
import hashlib, http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=60)
for size in (0, 1, 1000, 65536, 1000000, 2097152, 2097153, 5000000, 3) * 3:
    connection.request("GET", f"/bytes/{size}")
    body = connection.getresponse().read()
    print(size, len(body), hashlib.sha256(body).hexdigest() == hashlib.sha256(b"x" * size).hexdigest())
"""


def _download(lab: Lab, server: str) -> None:
    for line in lab.exec("client", "/usr/bin/python3", "-c", DOWNLOADS, server).splitlines():
        size, length, same = line.split()
        assert (length, same) == (size, "True")


def test_bodies_of_all_sizes_over_a_joined_connection(carrying: Lab) -> None:
    # The first connection to a service that nobody has used is the proxy's.
    _download(carrying, "joined:9000")
    before = carrying.status().capture.counters["joined"]
    _download(carrying, "joined:9000")
    assert carrying.status().capture.counters["joined"] - before == 1


def test_bodies_of_all_sizes(carrying: Lab) -> None:
    before = _carried(carrying, "aiohttp")
    _download(carrying, "aiohttp")
    assert _carried(carrying, "aiohttp") - before >= LEAST


def test_who_answers_500_to_carried_requests_is_ejected(carrying: Lab, pods: Path) -> None:
    """The client's one connection: of its requests the proxy sees the first to each endpoint."""
    url = "http://judged/"

    def both_answer() -> bool:
        return set(carrying.curl(url, *[url] * 15, "-w", "\n").split()) == {"moody-1", "moody-2"}

    def is_ejected() -> bool:
        carrying.curl(url, *[url] * 63)
        found = [each for each in carrying.endpoints() if each.cluster == "default/judged:80" and each.by]
        return [(each.workload, each.by) for each in found] == [("default/moody-2", "ejection")]

    carrying.run("apply", "-f", str(pods / "moody.yaml"))
    try:
        until(both_answer, 40.0)
        before = _carried(carrying, "judged")
        _set_mood(carrying, 500)
        until(is_ejected, 40.0)
        assert _carried(carrying, "judged") - before >= LEAST
        _set_mood(carrying, 200)
        until(both_answer, 40.0)
    finally:
        carrying.run("delete", "-f", str(pods / "moody.yaml"))


def _set_mood(lab: Lab, answer: int) -> None:
    """Of the pod on the other node."""
    put = ("curl", "-sS", "-X", "PUT", "-d", f"{answer} 200", "http://127.0.0.1:8080/mood")
    lab.exec("moody-2", *put)


def test_a_websocket_passes(carrying: Lab) -> None:
    carrying.exec("client", sys.executable, "-c", WEBSOCKET)


@pytest.mark.parametrize("server", ["nginx", "node"])
def test_wrk(carrying: Lab, server: str) -> None:
    before = _carried(carrying, server)
    output = carrying.exec("client", "wrk", "-t1", "-c16", "-d1s", f"http://{server}/")
    assert "Non-2xx" not in output
    assert "Socket errors" not in output
    found = re.search(r"(\d+) requests in", output)
    assert found is not None
    # Each connection's first is the proxy's; and some more are, while it has much to do.
    assert _carried(carrying, server) - before >= 0.9 * (int(found[1]) - 3 * 16)
