"""Workloads that call splice(2) on a connection of the mesh, late or at once: none waits for ever."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, running_lab, until

APP = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{meshd.io/fast-path: "{fast_path}"}}}}
spec: {{nodeName: {node}, containers: [{{name: app, command: {command}}}]}}
---
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, annotations: {{meshd.io/tcp-fast-path: "on"}}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080, appProtocol: {protocol}}}]}}
---
"""
HTTP_SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"x" * 20000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server(("", 8080), Answer).serve_forever()
"""
ECHO = """
import socket, socketserver

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

socketserver.ThreadingTCPServer(("", 8080), Echo).serve_forever()
"""
READER = """
import os, select, socket, sys, time

service, by_recv, by_splice = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
sock = socket.create_connection((service, 80), timeout=30)
read, write = os.pipe()

def recv():
    return sock.recv(65536)

def splice():
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return os.read(read, os.splice(sock.fileno(), write, 65536, flags=os.SPLICE_F_NONBLOCK) or 1)
        except BlockingIOError:
            time.sleep(0.001)
    sys.exit("nothing comes")

def answer(more):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += more()
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    while len(body) < 20000:
        body += more()
    assert head.startswith(b"HTTP/1.1 200") and body == b"x" * 20000, (head, len(body))

os.set_blocking(write, False)
for number in range(by_recv + by_splice):
    sock.sendall(b"GET / HTTP/1.1\\r\\nHost: web\\r\\n\\r\\n")
    answer(recv if number < by_recv else splice)
    print("read", flush=True)
"""
JOINED = """
import os, socket, sys, time

def connection():
    return socket.create_connection(("raw", 80), timeout=30)

def spliced(sock, text):
    read, write = os.pipe()
    sock.setblocking(False)
    deadline = time.monotonic() + 30
    sock.sendall(text)
    while time.monotonic() < deadline:
        try:
            return os.read(read, os.splice(sock.fileno(), write, 65536))
        except BlockingIOError:
            time.sleep(0.001)
    sys.exit("nothing comes")

sock = connection()
for _ in range(5):
    sock.sendall(b"carried")
    assert sock.recv(100) == b"carried"
try:
    spliced(sock, b"unseen")
except OSError as error:
    print(type(error).__name__, flush=True)
else:
    sys.exit("it saw what it could not")
print(spliced(connection(), b"seen").decode(), flush=True)
"""


def _command(*words: str) -> str:
    return "[" + ", ".join(repr(word) if "\n" not in word else _quoted(word) for word in words) + "]"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    idle = _command("sleep", "infinity")
    http = _command(sys.executable, "-c", HTTP_SERVER)
    manifest = tmp_path_factory.mktemp("splicing") / "pods.yaml"
    manifest.write_text(
        APP.format(name="late", node="node1", fast_path="on", command=idle)
        + APP.format(name="afar", node="node1", fast_path="on", command=idle)
        + APP.format(name="joining", node="node1", fast_path="on", command=idle)
        + APP.format(name="careful", node="node1", fast_path="off", command=idle)
        + APP.format(name="near", node="node1", fast_path="on", command=http)
        + APP.format(name="far", node="node2", fast_path="on", command=http)
        + APP.format(name="raw", node="node1", fast_path="on", command=_command(sys.executable, "-c", ECHO))
        + SERVICE.format(name="near", protocol="http")
        + SERVICE.format(name="far", protocol="http")
        + SERVICE.format(name="raw", protocol="tcp")
    )
    with running_lab(manifest) as running:
        assert running.status().capture.fast_path == "full"
        yield running


def _shown(lab: Lab, pod: str) -> str:
    return next(each.fast_path for each in lab.workloads() if each.name == pod)


def _carried(lab: Lab, service: str) -> int:
    return next(each.fast_requests for each in lab.services() if each.name == f"default/{service}:80")


@pytest.mark.parametrize(("pod", "service"), [("late", "near"), ("afar", "far")])
def test_who_begins_to_splice_late_gets_what_was_redirected(lab: Lab, pod: str, service: str) -> None:
    until(lambda: lab.code(f"http://{service}/", pod="careful") == "200")
    assert _shown(lab, pod) == "on"
    before = _carried(lab, service)
    output = lab.exec(pod, sys.executable, "-c", READER, service, "5", "5")
    assert output.split() == ["read"] * 10
    assert _carried(lab, service) > before
    until(lambda: _shown(lab, pod) == "off")
    (reason,) = (each.fast_path_reason for each in lab.workloads() if each.name == pod)
    assert "splice" in reason
    assert lab.exec(pod, sys.executable, "-c", READER, service, "0", "3").split() == ["read"] * 3


def test_a_joined_connection_ends_and_the_next_is_plain(lab: Lab) -> None:
    ask = "import socket; s = socket.create_connection(('raw', 80), 30); s.sendall(b'x'); print(s.recv(1))"
    until(lambda: lab.exec("careful", sys.executable, "-c", ask, check=False) == "b'x'\n")
    assert _shown(lab, "joining") == "on"
    joined = lab.status().capture.counters["joined"]
    assert lab.exec("joining", sys.executable, "-c", JOINED).split() == ["ConnectionAbortedError", "seen"]
    assert lab.status().capture.counters["joined"] == joined + 1
    assert _shown(lab, "joining") == "off"


def test_others_are_left_alone(lab: Lab) -> None:
    assert {_shown(lab, pod) for pod in ("near", "raw")} == {"on"}
    assert _shown(lab, "careful") == "off"


def test_the_lab_may_be_without_a_fast_path(tmp_path: Path) -> None:
    manifest = tmp_path / "pods.yaml"
    manifest.write_text(
        APP.format(name="a", node="node1", fast_path="on", command=_command("sleep", "infinity"))
    )
    with running_lab(manifest, nodes=1, more=("--fast-path", "off")) as lab:
        capture = lab.status().capture
        assert (capture.fast_path, capture.fast_path_reason) == ("off", "--fast-path off")
