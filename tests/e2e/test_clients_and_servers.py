"""Every client against every server, by plain service name, across and within nodes."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from tests.support.lab import Lab

BODY_SHA256 = hashlib.sha256(bytes(100000)).hexdigest()
SERVERS = ("aiohttp", "node", "threaded", "nginx")


def _clients(pods: Path) -> dict[str, tuple[str, ...]]:
    return {
        "requests": (sys.executable, str(pods / "fetch_requests.py")),
        "http.client": ("/usr/bin/python3", str(pods / "fetch_http_client.py")),
        "node": ("node", str(pods / "fetch.mjs")),
        "java": ("java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(pods / "Fetch.java")),
    }


@pytest.mark.parametrize("client", ["requests", "http.client", "node", "java"])
def test_get_and_post_cross_the_mesh(lab: Lab, pods: Path, client: str) -> None:
    for server in SERVERS:
        output = lab.exec("client", *_clients(pods)[client], f"http://{server}/echo?x=1")
        got, posted = map(json.loads, output.splitlines())
        assert (got["server"], got["method"]) == (server, "GET")
        assert (posted["server"], posted["method"]) == (server, "POST")
        for answer in (got, posted):
            assert answer["headers"]["x-forwarded-proto"] == "http"
            assert answer["headers"]["x-request-id"]
            assert answer["peer"].removeprefix("::ffff:") in lab.ips("client")
        if server != "nginx":
            assert (posted["length"], posted["sha256"]) == (100000, BODY_SHA256)


@pytest.mark.parametrize("server", SERVERS)
def test_curl_keeps_its_connection(lab: Lab, server: str) -> None:
    url = f"http://{server}/"
    output = lab.curl(url, url, url, "-w", "\n%{num_connects}\n").splitlines()
    assert [json.loads(line)["server"] for line in output[::2]] == [server] * 3
    assert output[1::2] == ["1", "0", "0"]


def test_forwarding_headers_are_as_envoys(lab: Lab) -> None:
    headers = lab.get("http://threaded/", "-H", "x-forwarded-for: 192.0.2.1", "-H", "x-request-id: mine")[
        "headers"
    ]
    assert headers["x-forwarded-for"] == f"192.0.2.1, {lab.pod('client')['ip']}"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-request-id"] == "mine"
    assert headers["host"] == "threaded"


def test_a_long_body_streams_through(lab: Lab) -> None:
    size = lab.exec("client", "sh", "-c", "curl -sS --max-time 60 http://aiohttp/bytes/200000000 | wc -c")
    assert int(size) == 200_000_000


WEBSOCKET = """
import asyncio, sys, websockets
async def main():
    async with websockets.connect("ws://aiohttp/ws") as socket:
        for text in ("one", "two", "x" * 100000):
            await socket.send(text)
            assert await socket.recv() == text
asyncio.run(main())
"""


def test_a_websocket_passes(lab: Lab) -> None:
    lab.exec("client", sys.executable, "-c", WEBSOCKET)


def test_ipv6_vips_are_captured_too(lab: Lab) -> None:
    for server in ("aiohttp", "node"):
        vips = next(s for s in lab.services() if s.name == f"default/{server}:80").addresses
        (v6,) = [vip for vip in vips if ":" in vip]
        assert lab.get(f"http://[{v6}]/")["headers"]["x-forwarded-proto"] == "http"


MAPPED = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
s.settimeout(60)
s.connect(("::ffff:" + sys.argv[1], 80))
print(s.getpeername()[0], s.getpeername()[1])
s.sendall(b"GET / HTTP/1.1\\r\\nHost: aiohttp\\r\\nConnection: close\\r\\n\\r\\n")
data = b""
while chunk := s.recv(65536):
    data += chunk
print(data.decode().splitlines()[-1])
"""


def test_ipv4_in_an_ipv6_socket_is_captured_and_sees_the_vip(lab: Lab) -> None:
    vip = lab.service_ip("aiohttp")
    peer, answer = lab.exec("client", "/usr/bin/python3", "-c", MAPPED, vip).splitlines()
    assert peer == f"::ffff:{vip} 80"
    assert json.loads(answer)["headers"]["x-forwarded-proto"] == "http"
