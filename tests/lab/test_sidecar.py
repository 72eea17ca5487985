"""Mode ``sidecar``: each request crosses the caller's Envoy and the server's."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.lab.envoys import sidecar
from meshd.lab.names import Lab as LabNames
from tests.lab import envoys, leftovers
from tests.lab.conftest import PODS
from tests.support.lab import Lab, running_lab, until


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    more = envoys.more_pods(tmp_path_factory.mktemp("sidecar"))
    with running_lab(PODS, envoys.CANARY, more, mode="sidecar") as running:
        yield running
    assert leftovers.of_lab(running.name) == {}


@pytest.fixture(scope="module")
def server(lab: Lab) -> str:
    """The pod of web-v2."""
    return next(str(pod["name"]) for pod in lab.cluster()["pods"] if pod["name"].startswith("web-v2-"))


def _envoy_pids(lab: Lab, pod: str) -> list[int]:
    return leftovers.pids(lab.name, f"{lab.pod(pod)['node']}/sidecars/default_{pod}")


def test_a_request_crosses_both_envoys_once(lab: Lab, server: str) -> None:
    before = envoys.requests(lab, "client", "default/web_80"), envoys.requests(lab, server, "inbound")
    assert envoys.shares(lab, "-H", "x-user: tester", count=30) == {"v2": 30}
    after = envoys.requests(lab, "client", "default/web_80"), envoys.requests(lab, server, "inbound")
    assert [b - a for a, b in zip(before, after, strict=True)] == [30, 30]


def test_weights(lab: Lab) -> None:
    envoys.check_weights(lab)


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_the_app_sees_its_envoy_and_the_caller_in_x_forwarded_for(lab: Lab, family: str) -> None:
    envoys.check_peers(lab, family, {"127.0.0.6", "::6"})


def test_a_pod_address_is_passed_through_both(lab: Lab, server: str) -> None:
    before = envoys.requests(lab, server, "inbound")
    passed = envoys.counters(lab, "client", r"^tcp\.passthrough\.downstream_cx_total$")
    assert lab.curl(f"http://{lab.pod(server)['ip']}:8080/") == "v2\n"
    assert envoys.requests(lab, server, "inbound") == before + 1
    after = envoys.counters(lab, "client", r"^tcp\.passthrough\.downstream_cx_total$")
    assert [after[name] - passed[name] for name in after] == [1]


def test_a_protocol_in_which_the_server_talks_first(lab: Lab) -> None:
    assert lab.exec("client", "/usr/bin/python3", "-c", envoys.LISTEN) == "server first\n"


def test_a_pod_reaches_itself_by_its_service(lab: Lab) -> None:
    before = envoys.requests(lab, "near", "inbound")
    assert lab.curl("http://near/", pod="near") == "near\n"
    assert envoys.requests(lab, "near", "inbound") == before + 1


def test_udp_and_what_is_outside_the_mesh_stay_as_they_were(lab: Lab, server: str) -> None:
    assert lab.exec("client", "/usr/bin/python3", "-c", envoys.UDP).strip() in ("near", "far")
    before = envoys.requests(lab, server, "inbound")
    assert lab.curl("http://web-v2/", pod="outsider") == "v2\n"
    assert envoys.requests(lab, server, "inbound") == before + 1  # the server's own Envoy is in the way
    assert not LabNames(lab.name).envoy_admin(lab.pod("outsider")["ip"]).exists()


def test_the_capture_port_itself_leads_nowhere(lab: Lab) -> None:
    assert lab.code("http://127.0.0.1:15001/") == "000"
    assert lab.code("http://127.0.0.1:15006/") == "000"


def test_probes_go_to_the_app_and_not_by_the_envoy(lab: Lab) -> None:
    before = envoys.counters(lab, "near", r"^listener\.0\.0\.0\.0_15006\.downstream_cx_total$")
    assert before
    lab.exec("near", "curl", "-s", "http://127.0.0.1:8080/ready/no")
    until(lambda: not lab.pod("near")["ready"])
    lab.exec("near", "curl", "-s", "http://127.0.0.1:8080/ready/yes")
    until(lambda: lab.pod("near")["ready"])
    assert envoys.counters(lab, "near", r"^listener\.0\.0\.0\.0_15006\.downstream_cx_total$") == before


def test_a_route_is_changed_live(lab: Lab, tmp_path: Path) -> None:
    envoys.check_live_change(lab, tmp_path / "route.yaml")


def test_a_rollout_replaces_pods_and_their_envoys(lab: Lab, tmp_path: Path) -> None:
    old = {pod["name"] for pod in lab.cluster()["pods"] if pod["name"].startswith("web-v1-")}
    manifest = tmp_path / "pods.yaml"
    text = (
        (envoys.CANARY / "pods.yaml")
        .read_text()
        .replace("{name: VERSION, value: v1}", "{name: VERSION, value: v3}")
    )
    manifest.write_text(text.replace("server.py]", f"{envoys.CANARY}/server.py]"))
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    until(lambda: set(envoys.shares(lab, count=30)) <= {"v2", "v3"})
    until(lambda: not old & {pod["name"] for pod in lab.cluster()["pods"]})
    now = {str(pod["ip"]) for pod in lab.cluster()["pods"] if pod["name"] != "outsider"}
    until(lambda: {path.stem for path in LabNames(lab.name).envoys.iterdir()} == now)


def test_a_pod_is_not_ready_without_its_envoy(lab: Lab) -> None:
    (first,) = _envoy_pids(lab, "far")
    assert "envoy" in Path(f"/proc/{first}/cmdline").read_text()
    os.kill(first, signal.SIGSTOP)  # it stays so until it has been seen
    until(lambda: not lab.pod("far")["ready"])
    os.kill(first, signal.SIGKILL)
    until(lambda: lab.pod("far")["ready"])
    assert _envoy_pids(lab, "far") != [first]
    assert lab.curl("http://far/") == "far\n"


def test_status_and_logs_know_the_envoy(lab: Lab) -> None:
    assert "mode sidecar" in lab.run("status").stdout
    assert "downstream connections" in lab.run("logs", "near", "-c", "envoy").stdout
    assert lab.run("logs", "near").stdout.startswith("near serves\n")


def test_the_rules_are_what_keeps_envoy_from_itself(lab: Lab) -> None:
    netns = LabNames(lab.name).pod_netns("default", "near").name
    rules = subprocess.run(
        ["ip", "netns", "exec", netns, "nft", "list", "ruleset"], capture_output=True, text=True, check=True
    ).stdout
    assert f"skgid {sidecar.GROUP} return" in rules
    (pid,) = _envoy_pids(lab, "near")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Gid:\t{sidecar.GROUP}\t" in status


def test_an_ending_pod_drains_and_its_envoy_ends_last(lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "slow.yaml"
    manifest.write_text(_SLOW)
    lab.run("apply", "-f", str(manifest), "--wait", "60")
    (envoy_pid,) = _envoy_pids(lab, "slow")
    until(lambda: lab.curl("http://slow/now") == "begun now\n")
    directly = f"http://{lab.pod('slow')['ip']}:8080/now"
    assert "connection: close" not in lab.curl(directly, "-D", "-").lower()
    with subprocess.Popen(
        [*lab.command("exec", "client", "--", "curl", "-sS", "--max-time", "90", "http://slow/later")],
        stdout=subprocess.PIPE,
        text=True,
    ) as caller:
        until(lambda: "later" in lab.run("logs", "slow").stdout)
        lab.run("delete", "-f", str(manifest))
        until(lambda: "SIGTERM" in lab.run("logs", "slow").stdout)
        assert "connection: close" in lab.curl(directly, "-D", "-").lower()
        assert Path(f"/proc/{envoy_pid}").exists()
        lab.curl(f"http://{lab.pod('slow')['ip']}:8080/end")
        assert caller.communicate(timeout=100)[0] == "begun later\n"
    until(lambda: all(pod["name"] != "slow" for pod in lab.cluster()["pods"]))
    until(lambda: not Path(f"/proc/{envoy_pid}").exists())


_SLOW = """
apiVersion: v1
kind: Pod
metadata: {name: slow, labels: {app: slow}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 100
  containers:
    - name: a
      command:
        - /usr/bin/python3
        - -uc
        - |
          import http.server, signal, threading, time
          class H(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
              print(self.path)
              self.send_response(200)
              self.send_header("content-length", str(len(self.path) + 6))
              self.end_headers()
              self.wfile.write(b"begun ")
              if self.path == "/later": ending.wait(); time.sleep(1)
              self.wfile.write(self.path[1:].encode() + b"\\n")
              if self.path == "/end": threading.Thread(target=shut).start()
          server = http.server.ThreadingHTTPServer(("", 8080), H)
          server.daemon_threads = False
          ending = threading.Event()
          def shut(): ending.set(); server.shutdown()
          def end(*_): print("SIGTERM")
          signal.signal(signal.SIGTERM, end)
          server.serve_forever()
          server.server_close()
      readinessProbe: {tcpSocket: {port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: slow}
spec: {selector: {app: slow}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""


def test_a_consumer_route_is_for_the_sidecars_of_its_namespace(lab: Lab, tmp_path: Path) -> None:
    def status(pod: str, namespace: str) -> str:
        command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://web.default/")
        return lab.run("exec", "-n", namespace, pod, "--", *command).stdout

    route = tmp_path / "consumer.yaml"
    route.write_text("""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: away, namespace: other}
spec:
  parentRefs: [{group: "", kind: Service, name: web, namespace: default}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 307, hostname: example.org}}]}]
""")
    assert status("stranger", "other") == "200"
    lab.run("apply", "-f", str(route))
    try:
        until(lambda: status("stranger", "other") == "307")
        assert status("client", "default") == "200"
    finally:
        lab.run("delete", "-f", str(route))
    until(lambda: status("stranger", "other") == "200")
