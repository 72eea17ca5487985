"""What capture takes, what it leaves alone, and what an application can see of it."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.lab import Lab, until

PEER_NAME = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
print(*s.getpeername()[:2])
"""


def _peer_name(lab: Lab, host: str, port: int) -> str:
    return lab.exec("client", "/usr/bin/python3", "-c", PEER_NAME, host, str(port)).strip()


def _through_the_mesh(answer: dict[str, dict[str, str]]) -> bool:
    return "x-forwarded-proto" in answer["headers"]


def test_an_application_sees_the_service_address(lab: Lab) -> None:
    assert _peer_name(lab, "threaded", 80) == f"{lab.service_ip('threaded')} 80"
    assert _peer_name(lab, "opaque", 9000) == f"{lab.service_ip('opaque')} 9000"


def test_pod_addresses_and_headless_services_pass_untouched(lab: Lab) -> None:
    ip = lab.pod("threaded")["ip"]
    for url in (f"http://{ip}:8080/", "http://headless:8080/"):
        answer = lab.get(url)
        assert answer["server"] == "threaded"
        assert not _through_the_mesh(answer)
    assert _peer_name(lab, "headless", 8080) == f"{ip} 8080"


def test_an_opaque_service_is_balanced_in_the_kernel_and_never_proxied(lab: Lab) -> None:
    before = lab.status().capture.counters
    answer = lab.get("http://opaque:9000/")
    assert answer["server"] == "threaded"
    assert not _through_the_mesh(answer)
    assert answer["peer"] == lab.pod("client")["ip"]
    after = lab.status().capture.counters
    assert sum(after.values()) > sum(before.values())


def test_a_port_that_is_no_service_port_is_refused_as_without_the_mesh(lab: Lab) -> None:
    assert lab.code(f"http://{lab.service_ip('aiohttp')}:81/", "--connect-timeout", "1") == "000"


def test_node_to_pod_and_pod_to_node_pass_untouched(lab: Lab) -> None:
    netns = f"meshd-{lab.name}-node1"
    ip = lab.pod("aiohttp")["ip"]
    command = ["ip", "netns", "exec", netns, "curl", "-sS", "--max-time", "5", f"http://{ip}:8080/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert not _through_the_mesh(json.loads(done.stdout))
    gateway = lab.exec("client", "sh", "-c", "ip route show default | awk '{print $3}'").strip()
    server = subprocess.Popen(
        ["ip", "netns", "exec", netns, "/usr/bin/python3", "-m", "http.server", "18080"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: lab.code(f"http://{gateway}:18080/") == "200")
    finally:
        server.kill()
        server.wait()


def test_the_listener_port_itself_is_of_no_use_to_a_pod(lab: Lab) -> None:
    port = next(w.port for w in lab.workloads() if w.name == "client")
    assert lab.code(f"http://127.0.0.1:{port}/") == "000"
    assert lab.code("http://aiohttp/") == "200"


def test_a_bound_socket_and_a_nonblocking_connect_are_captured(lab: Lab) -> None:
    script = """
import asyncio, socket, sys
async def main():
    reader, writer = await asyncio.open_connection("aiohttp", 80, local_addr=(sys.argv[1], 0))
    writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n")
    print((await reader.read()).decode().splitlines()[-1])
    writer.close()
asyncio.run(main())
"""
    output = lab.exec("client", sys.executable, "-c", script, lab.pod("client")["ip"])
    assert _through_the_mesh(json.loads(output))


def test_a_pod_may_call_itself_by_its_service(lab: Lab) -> None:
    assert _through_the_mesh(lab.get("http://aiohttp/", pod="aiohttp"))


def test_closed_connections_leave_no_flow(lab: Lab) -> None:
    script = """
import socket
for _ in range(500):
    socket.create_connection(("aiohttp", 80), 5).close()
"""
    lab.exec("client", "/usr/bin/python3", "-c", script)
    until(lambda: lab.status().capture.flows == 0)
