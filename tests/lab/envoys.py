"""What a lab's Envoys say of themselves, by their admin sockets."""

from __future__ import annotations

import json
from pathlib import Path

from meshd.lab.names import Lab as LabNames
from tests.support import unix_http
from tests.support.lab import Lab

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
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); "
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
    name = whose if whose.startswith("node") else lab.pod(whose)["ip"]
    admin = LabNames(lab.name).envoy_admin(name)
    found = json.loads(unix_http.get(admin, f"/stats?format=json&filter={pattern}"))["stats"]
    return {stat["name"]: stat["value"] for stat in found if "value" in stat}


def requests(lab: Lab, whose: str, manager: str) -> int:
    """How many requests an HTTP connection manager of an Envoy has taken."""
    return sum(counters(lab, whose, rf"^http\.{manager}\.downstream_rq_total$").values())


def shares(lab: Lab, *curl: str, count: int = 60) -> dict[str, int]:
    """How often each version answered ``count`` requests to ``web``, all of one connection."""
    urls = ["http://web/"] * count
    found = lab.exec("client", "curl", "-sS", "--max-time", "20", *curl, *urls).split()
    return {version: found.count(version) for version in sorted(set(found))}


def route(*backends: tuple[str, int]) -> str:
    """The canary's route with other weights, and nothing for testers."""
    refs = ", ".join(f"{{name: {name}, port: 80, weight: {weight}}}" for name, weight in backends)
    return (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web-canary}\nspec:\n"
        f'  parentRefs: [{{group: "", kind: Service, name: web, port: 80}}]\n'
        f"  rules:\n    - backendRefs: [{refs}]\n"
        "    - matches: [{path: {type: Exact, value: /two}}]\n"
        "      backendRefs: [{name: web-v2, port: 80}]\n"
    )
