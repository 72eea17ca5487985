"""TLSRoute and TCPRoute through the whole mesh: real TLS servers by name, shares, streams, and their ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.lab import MESHD, Lab, running_lab, until

SERVER = Path(__file__).parent / "pods" / "l4_server.py"
NAMES = {"one": ("one.example",), "two": ("two.example", "deep.two.example")}


def _server(name: str, node: str, port: int, *command: str) -> str:
    arguments = json.dumps([sys.executable, str(SERVER), *command])
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  containers:
    - name: server
      command: {arguments}
      ports: [{{name: main, containerPort: {port}}}]
      readinessProbe: {{tcpSocket: {{port: main}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: {port}, targetPort: main, appProtocol: tcp}}]}}
---
"""


FRONT = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node1, containers: [{name: client, command: [sleep, "3600"]}]}
---
apiVersion: v1
kind: Service
metadata: {name: front}
spec: {selector: {app: one}, ports: [{port: 443, targetPort: 8443, appProtocol: tls}]}
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: v1}, ports: [{port: 5432, targetPort: 6000, appProtocol: postgresql}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: split}
spec:
  parentRefs: [{group: "", kind: Service, name: db}]
  rules: [{backendRefs: [{name: v1, port: 6000, weight: 90}, {name: v2, port: 6000, weight: 10}]}]
---
"""


def _tls_route(name: str, *hostnames: str) -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{group: "", kind: Service, name: front, port: 443}}]
  hostnames: {json.dumps(hostnames)}
  rules: [{{backendRefs: [{{name: {name}, port: 8443}}]}}]
---
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("l4")


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    authority = Authority(folder)
    manifest = FRONT
    for name, node in (("one", "node1"), ("two", "node2")):
        names = ",".join(f"DNS:{each}" for each in NAMES[name])
        signed = authority.sign(f"{name}.example", names)
        manifest += _server(name, node, 8443, "https", name, "8443", str(signed.certificate), str(signed.key))
        manifest += _tls_route(name, f"{name}.example", *([f"*.{name}.example"] if name == "two" else []))
    manifest += _server("v1", "node1", 6000, "echo", "v1", "6000")
    manifest += _server("v2", "node2", 6000, "echo", "v2", "6000")
    (folder / "pods.yaml").write_text(manifest)
    log = ("--access-log", str(folder / "access-%n.log"))
    with running_lab(folder / "pods.yaml", more=log) as running:
        yield running


def curl(lab: Lab, folder: Path, name: str) -> str:
    """What a TLS server says that is asked for by name, believed by its certificate; empty: no connection."""
    to_front = ("--connect-to", f"{name}:443:front:443", "--cacert", str(folder / "ca.pem"))
    command = ("curl", "-sS", "--max-time", "20", *to_front, f"https://{name}/")
    return lab.exec("client", *command, check=False)


def python(lab: Lab, code: str, timeout: float = 90) -> str:
    return lab.exec(
        "client", sys.executable, "-c", f"import hashlib, json, socket, threading\n{code}", timeout=timeout
    )


def test_tls_servers_are_reached_by_name_with_their_own_certificates(lab: Lab, folder: Path) -> None:
    for name, expected in (("one.example", "one"), ("two.example", "two"), ("deep.two.example", "two")):
        assert curl(lab, folder, name) == expected
    assert curl(lab, folder, "three.example") == ""


def test_other_clients_are_read_too(lab: Lab, folder: Path) -> None:
    options = f"""{{
        host: "front", port: 443, servername: "two.example", headers: {{host: "two.example"}},
        ca: require("fs").readFileSync("{folder}/ca.pem"),
    }}"""
    ask = f"require('https').get({options}, answer => answer.pipe(process.stdout))"
    assert lab.exec("client", "node", "-e", ask) == "two"
    openssl = "openssl s_client -quiet -connect front:443 -servername one.example 2>/dev/null"
    shell = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | {openssl}"
    assert lab.exec("client", "sh", "-c", shell, check=False).endswith("one")


def test_connections_are_shared_and_servers_see_the_caller(lab: Lab) -> None:
    asked = """
def ask():
    with socket.create_connection(("db", 5432), 20) as s:
        s.sendall(b"who\\n")
        return s.makefile().read(), s.getpeername()[0]
print(json.dumps([ask() for _ in range(300)]))
"""
    answers = json.loads(python(lab, asked))
    ips = lab.ips("client")
    vip = lab.service_ip("db")
    assert {peer for _, peer in answers} == {vip}
    assert {answer.split()[1] for answer, _ in answers} <= set(ips)
    shares = Counter(answer.split()[0] for answer, _ in answers)
    # 30 of 300 on average: out of these bounds about once in ten million runs.
    assert set(shares) == {"v1", "v2"}
    assert 5 <= shares["v2"] <= 62
    route = next(each for each in lab.routes() if each.name == "default/split/0")
    assert route.action == "default/v1:6000 (90), default/v2:6000 (10)"
    assert route.requests >= 300


def test_a_finished_sender_gets_its_answer_and_long_streams_arrive_whole(lab: Lab) -> None:
    streamed = """
block, count = bytes(range(256)) * 4096, 64
def open_(line):
    s = socket.create_connection(("db", 5432), 60)
    s.sendall(line)
    return s
with open_(b"digest\\n") as s:
    s.sendall(b"all of it")
    s.shutdown(socket.SHUT_WR)
    print(s.makefile().read() == hashlib.sha256(b"all of it").hexdigest())
with open_(b"echo\\n") as s:
    def send():
        for _ in range(count):
            s.sendall(block)
        s.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    got = hashlib.sha256()
    while data := s.recv(1 << 20):
        got.update(data)
    sender.join()
    print(got.hexdigest() == hashlib.sha256(block * count).hexdigest())
"""
    assert python(lab, streamed).split() == ["True", "True"]


def test_the_log_and_the_command_line_tell_of_connections(lab: Lab, folder: Path) -> None:
    curl(lab, folder, "two.example")
    curl(lab, folder, "three.example")

    def logged(name: str) -> dict[str, object] | None:
        lines = (folder / "access-node1.log").read_text().splitlines()
        found = [entry for entry in map(json.loads, lines) if entry["requested_server_name"] == name]
        return found[-1] if found else None

    served = until(lambda: logged("two.example"), 30)
    assert served is not None
    assert served["route_name"] == "default/two/0"
    assert served["upstream_cluster"] == "default/two:8443"
    assert str(served["upstream_host"]).endswith(":8443")
    assert served["source_workload"] == "default/client"
    refused = until(lambda: logged("three.example"), 30)
    assert refused is not None
    assert (refused["response_flags"], refused["upstream_cluster"]) == ("NR", None)
    explained = lab_explain(lab, "front", "--sni", "deep.two.example")
    assert (explained["route"], explained["path"]) == ("default/two/0", "proxy")


def lab_explain(lab: Lab, *question: str) -> dict[str, object]:
    command = [*MESHD, "explain", *question, "--instance", lab.instance("node1"), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    found: dict[str, object] = json.loads(done.stdout)["nodes"][0]
    return found


ASK = """
def ask():
    try:
        with socket.create_connection(("db", 5432), 20) as s:
            s.sendall(b"who\\n")
            return s.makefile().read().split()[0]
    except OSError:
        return "refused"
print(json.dumps([ask() for _ in range(200)]))
"""
WAIT = """
import socket
with socket.create_connection(("v2", 6000), 60) as s:
    s.sendall(b"echo\\nx")
    print(s.recv(1).decode(), flush=True)
    try:
        print("end", s.recv(1))
    except ConnectionResetError:
        print("reset")
"""
CALL = """
import socket
socket.create_connection(("v2", 6000), 60).close()
"""
V2_ONLY = """
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: v2-alone}
spec:
  parentRefs: [{group: "", kind: Service, name: v2}]
  rules: [{backendRefs: [{name: v2, port: 6000}]}]
"""


def test_a_server_that_goes_ends_its_connections_and_its_share_is_refused(lab: Lab, folder: Path) -> None:
    (folder / "more.yaml").write_text(V2_ONLY)
    lab.run("apply", "-f", str(folder / "more.yaml"))

    def is_routed() -> bool:
        python(lab, CALL)  # what nobody uses is not on the node
        return any(route.name == "default/v2-alone/0" for route in lab.routes())

    until(is_routed)
    documents = (folder / "pods.yaml").read_text().split("---\n")
    (folder / "gone.yaml").write_text(
        next(each for each in documents if "kind: Pod" in each and "name: v2," in each)
    )
    command = lab.command("exec", "client", "--", sys.executable, "-c", WAIT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "x\n"
        lab.run("delete", "-f", str(folder / "gone.yaml"))
        assert waiting.stdout.readline() in ("reset\n", "end b''\n")
    until(lambda: set(json.loads(python(lab, ASK))) == {"v1", "refused"}, 60)
