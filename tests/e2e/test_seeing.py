"""What operators see: status, lists, metrics, access log."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.lab import MESHD, Lab, until


def _scrape(lab: Lab, node: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    command = [
        "ip",
        "netns",
        "exec",
        f"meshd-{lab.name}-{node}",
        "curl",
        "-sS",
        "http://127.0.0.1:15020/metrics",
    ]
    text = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def test_each_request_is_counted_once_with_its_labels(lab: Lab) -> None:
    def total() -> float:
        return sum(
            value
            for labels, value in _scrape(lab, "node1").get("meshd_requests_total", [])
            if labels["service"] == "default/nginx:80" and labels["source"] == "default/client"
        )

    before = total()
    for _ in range(7):
        lab.curl("http://nginx/counted")
    assert total() - before == 7
    rows = [labels for labels, _ in _scrape(lab, "node1")["meshd_requests_total"]]
    counted = {(row["service"], row["cluster"], row["code"], row["method"]) for row in rows}
    assert ("default/nginx:80", "default/nginx:80", "200", "GET") in counted
    histogram = _scrape(lab, "node1")["meshd_request_duration_seconds_bucket"]
    infinite = [value for labels, value in histogram if labels["le"] == "+Inf"]
    assert sum(infinite) == sum(value for _, value in _scrape(lab, "node1")["meshd_requests_total"])


def test_health_and_node_metrics(lab: Lab) -> None:
    until(lambda: len(lab.workloads()) == 3)  # those of other tests are gone
    lab.curl("http://nginx/")
    samples = _scrape(lab, "node1")
    assert samples["meshd_control_connected"] == [({}, 1.0)]
    (version,) = samples["meshd_xds_version_info"]
    assert version[0]["version"] == lab.status().control.version != ""
    assert samples["meshd_worker_up"] == [({"worker": "0"}, 1.0)]
    assert samples["meshd_workloads"][0][1] == 3
    services = {labels["state"]: count for labels, count in samples["meshd_subscribed_services"]}
    assert services["known"] + services["used"] == samples["meshd_services"][0][1]
    assert services["used"] >= 1
    assert samples["meshd_demand_seconds_count"][0][1] >= 1
    netns = f"meshd-{lab.name}-node1"
    for path in ("healthz", "readyz"):
        command = ["ip", "netns", "exec", netns, "curl", "-sS", f"http://127.0.0.1:15020/{path}"]
        assert (
            subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout == "ok\n"
        )


def test_status_and_lists_say_what_there_is(lab: Lab) -> None:
    status = lab.status()
    assert (status.node, status.control.connected, status.control.synced) == ("node1", True, True)
    assert [worker.state for worker in status.workers] == ["serving"]
    assert not [problem for found in status.objects for problem in found.problems]
    until(lambda: {w.name for w in lab.workloads() if w.enrolled} == {"client", "aiohttp", "nginx"})
    for service in ("nginx", "node"):
        lab.curl(f"http://{service}/")
    services = {service.name: service for service in lab.services()}
    assert services["default/opaque:9000"].protocol == "tcp"
    assert services["default/closed:80"].failure_policy == "closed"
    assert (services["default/nginx:80"].endpoints, services["default/nginx:80"].healthy) == (1, 1)
    assert "default/headless:8080" not in services
    assert {e.workload for e in lab.endpoints() if e.cluster == "default/node:80"} == {"default/node"}
    assert any(route.service == "default/nginx:80" for route in lab.routes())
    # What nobody on the node has called it only knows of.
    assert not services["default/closed:80"].used
    assert not any(e.cluster == "default/closed:80" for e in lab.endpoints())


def test_text_output_has_a_line_for_each_thing(lab: Lab) -> None:
    for service in ("nginx", "node", "aiohttp"):
        lab.curl(f"http://{service}/")
    for command in ("status", "services", "routes", "endpoints", "workloads"):
        arguments = [*MESHD, command, "--instance", lab.instance("node1")]
        text = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=True).stdout
        assert len(text.splitlines()) > 3, text


def test_explain_says_where_a_request_goes(lab: Lab) -> None:
    def explained(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*MESHD, "explain", *arguments, "--instance", lab.instance("node1")]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)

    (found,) = json.loads(explained("nginx", "GET", "/x?y", "-H", "X-A: 1", "-o", "json").stdout)["nodes"]
    assert (found["node"], found["service"], found["route"]) == ("node1", "default/nginx:80", "default")
    share = {"cluster": "default/nginx:80", "weight": 1, "endpoints": 1, "healthy": 1}
    assert found["clusters"] == [{**share, "policies": [], "effects": []}]
    text = explained("default/nginx:80", "GET", "/").stdout
    assert text.startswith("GET / to default/nginx:80 (Host nginx.default)\n")
    none = explained("nowhere", "GET", "/")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr.startswith("meshd explain: the agent at ")
    assert "there is no service default/nowhere; there are default/" in none.stderr


def test_an_unknown_agent_is_an_error_and_not_a_traceback() -> None:
    done = subprocess.run(
        [*MESHD, "status", "--instance", "nowhere"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("meshd status: no agent of instance 'nowhere'")


def test_agent_and_worker_are_small(lab: Lab) -> None:
    status = lab.status("node2")
    total = status.rss_bytes + sum(worker.rss_bytes for worker in status.workers)
    print(f"resident: agent {status.rss_bytes >> 20} MB, worker {status.workers[0].rss_bytes >> 20} MB")
    assert total < 120_000_000


def test_the_access_log_has_a_json_line_for_each_request(pods: Path, lab: Lab) -> None:
    lab.curl("http://nginx/logged?x=1", "-H", "x-request-id: find-me")

    def entries() -> list[dict[str, object]]:
        lines = (pods.parent / "access-node1.log").read_text().splitlines()
        return [json.loads(line) for line in lines if "find-me" in line]

    until(entries)
    (entry,) = entries()
    assert "/logged?x=1" in entry.values()
    assert 200 in entry.values()
