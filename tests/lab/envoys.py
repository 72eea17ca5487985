"""What a lab's Envoys say of themselves, by their admin sockets."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from meshd.lab.names import Lab as LabNames
from tests.support import unix_http
from tests.support.lab import Lab, until

CANARY = Path(__file__).resolve().parents[2] / "examples" / "canary"

_MORE = """
apiVersion: v1
kind: Pod
metadata: {name: outsider, labels: {meshd.io/mesh: disabled}}
spec: {nodeName: node1, terminationGracePeriodSeconds: 1, containers: [{name: a, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: mirror, labels: {app: mirror}}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers:
    - {name: a, command: [/usr/bin/python3, mirror.py], readinessProbe: {tcpSocket: {port: 8080}}}
---
apiVersion: v1
kind: Service
metadata: {name: mirror}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {app: mirror}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]
"""
_MIRROR = """
import hashlib, http.server, json, socket, threading
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen = {"peer": self.client_address[0], **{k.lower(): v for k, v in self.headers.items()}}
        self.answer(json.dumps(seen).encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.answer(hashlib.sha256(body).hexdigest().encode() + body)
    def answer(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
def talk_first():
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"server first")
        connection.close()
listener = socket.create_server(("::", 9090), family=socket.AF_INET6, dualstack_ipv6=True)
threading.Thread(target=talk_first, daemon=True).start()
Server(("::", 8080), Handler).serve_forever()
"""
LISTEN = "import socket; print(socket.create_connection(('mirror', 90), 10).recv(100).decode())"
UDP = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60); "
    "s.sendto(b'?', ('all', 53)); print(s.recv(100).decode())"
)


def more_pods(folder: Path) -> Path:
    """A manifest with a pod outside the mesh, and one (``mirror``) that says what it sees."""
    (folder / "mirror.py").write_text(_MIRROR)
    manifest = folder / "more.yaml"
    manifest.write_text(_MORE)
    return manifest


def counters(lab: Lab, whose: str, pattern: str) -> dict[str, int]:
    """The counters of a pod's or node's Envoy whose names match a regular expression."""
    found = json.loads(unix_http.get(_admin(lab, whose), f"/stats?format=json&filter={pattern}"))["stats"]
    return {stat["name"]: stat["value"] for stat in found if "value" in stat}


@functools.cache
def _admin(lab: Lab, whose: str) -> Path:
    """A pod's address stays the same as long as the pod lives."""
    return LabNames(lab.name).envoy_admin(whose if whose.startswith("node") else lab.pod(whose)["ip"])


def requests(lab: Lab, whose: str, manager: str) -> int:
    """How many requests an HTTP connection manager of an Envoy has taken."""
    return sum(counters(lab, whose, rf"^http\.{manager}\.downstream_rq_total$").values())


def shares(lab: Lab, *curl: str, count: int = 60) -> dict[str, int]:
    """How often each version answered ``count`` requests to ``web``, all of one connection."""
    urls = ["http://web/"] * count
    found = lab.exec("client", "curl", "-sS", "--max-time", "20", *curl, *urls).split()
    return {version: found.count(version) for version in sorted(set(found))}


def check_peers(lab: Lab, family: str, peers: set[str]) -> None:
    """Who ``mirror`` says that it is called by, over a family of the caller's choice (curl's option).

    The server's family is Envoy's choice: its endpoints have both.
    """
    script = f"for i in 1 2 3 4 5 6; do curl -sS --max-time 10 {family} http://mirror/; echo; done"
    seen = [json.loads(line) for line in lab.exec("client", "sh", "-c", script).splitlines()]
    assert {one["peer"].removeprefix("::ffff:") for one in seen} == peers
    (caller,) = {one["x-forwarded-for"] for one in seen}
    assert caller in lab.exec("client", "hostname", "-I").split()
    assert (":" in caller) == (family == "-6")


def check_weights(lab: Lab) -> None:
    """The canary's split, 90 to 10."""
    found = shares(lab, count=300)
    # Of 300 draws of 1 in 10, fewer than 6 or more than 66 come less than once in a million runs.
    assert sum(found.values()) == 300
    assert 6 <= found["v2"] <= 66


def check_live_change(lab: Lab, manifest: Path) -> None:
    """Another route for ``web``, and back; ``manifest`` is written."""
    tester = ("-H", "x-user: tester")
    manifest.write_text(_ROUTE)
    lab.run("apply", "-f", str(manifest))
    until(lambda: shares(lab, *tester, count=20) == {"v1": 20})
    assert lab.curl("http://web/two") == "v2\n"
    lab.run("apply", "-f", str(CANARY))
    until(lambda: shares(lab, *tester, count=20) == {"v2": 20})


_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web-canary}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
    - backendRefs: [{name: web-v1, port: 80, weight: 1}, {name: web-v2, port: 80, weight: 0}]
    - matches: [{path: {type: Exact, value: /two}}]
      backendRefs: [{name: web-v2, port: 80}]
"""
