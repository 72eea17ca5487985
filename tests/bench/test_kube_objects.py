"""What ``meshd bench --kube`` would create: by Kubernetes' own schemas, and by what it is for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from meshd.bench import nginx, plan
from meshd.bench.kube import objects, pods
from meshd.bench.kube.dry_run import dry_run
from meshd.bench.kube.options import SCENARIOS, Options, sidecar_label
from meshd.bench.kube.task import Finding, Task, TaskError, argument, finding, line, task
from meshd.bench.plan import Load, Plan
from meshd.bench.results import PLACEMENTS, Round, Scenario
from meshd.kube.parse import parse

PLAN = Plan(scenarios=SCENARIOS, loads=plan.standard_loads(PLACEMENTS), rounds=2, seconds=3, memory_pods=())
ALL: list[dict[str, Any]] = list(yaml.safe_load_all(dry_run(PLAN, Options())))
VERSIONS = ("1.28", "1.32", "1.37")


def named(kind: str, namespace: str | None = None) -> dict[str, Any]:
    return {
        one["metadata"]["name"]: one
        for one in ALL
        if one["kind"] == kind and namespace in (None, one["metadata"].get("namespace"))
    }


def distinct() -> list[dict[str, Any]]:
    """One object of each kind and namespace: the Jobs of a namespace differ in their argument only."""
    found = {}
    for one in ALL:
        name = "" if one["kind"] == "Job" else one["metadata"]["name"]
        found[one["kind"], one["metadata"].get("namespace"), name] = one
    return list(found.values())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_schemas_hold(version: str) -> None:
    checked = [one for one in distinct() if one["kind"] not in objects.ROUTES]
    assert {one["kind"] for one in checked} == {"Namespace", "ConfigMap", "Deployment", "Service", "Job"}
    for one in checked:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_schemas_would_refuse_a_mistake() -> None:
    job = objects.job(next(PLAN.runs()), 1, 3, Options())
    job["spec"]["backofLimit"] = 0
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[0], strict=True)


def test_meshd_takes_services_and_routes() -> None:
    wanted = [one for one in ALL if one["kind"] in ("Service", *objects.ROUTES)]
    found = parse(yaml.safe_dump_all(wanted))
    assert found.problems == ()
    assert len(found.objects) == len(wanted) == 4 * 2 * (4 + 4)


def test_every_namespace_is_found_by_its_label() -> None:
    found = named("Namespace")
    assert set(found) == {"meshd-bench", *(f"meshd-bench-{scenario}" for scenario in SCENARIOS)}
    assert all(objects.MANAGED.items() <= one["metadata"]["labels"].items() for one in found.values())
    assert {one["metadata"].get("namespace") for one in ALL if one["kind"] != "Namespace"} == set(found)


@pytest.mark.parametrize(
    ("scenario", "labels", "fast_path"),
    [
        ("direct", {"meshd.io/mesh": "disabled"}, None),
        ("sidecar", {"meshd.io/mesh": "disabled", "inject": "please"}, None),
        ("meshd-slow", {"meshd.io/mesh": "enabled"}, "off"),
        ("meshd-fast", {"meshd.io/mesh": "enabled"}, "on"),
    ],
)
def test_scenarios_differ_in_how_they_are_enrolled(
    scenario: Scenario, labels: dict[str, str], fast_path: str | None
) -> None:
    found = objects.scenario(scenario, PLAN, Options(sidecar_label=("inject", "please")))
    assert found[0]["metadata"]["labels"] == {**objects.MANAGED, **labels}
    marks = [one["metadata"].get("annotations", {}) for one in found if one["kind"] == "Service"]
    assert [mark.get("meshd.io/fast-path") for mark in marks] == [fast_path] * 8


def test_servers_are_the_same_in_all_scenarios() -> None:
    """But for the namespace, and the word to an injector."""

    def plain(scenario: Scenario) -> list[dict[str, Any]]:
        found = objects.scenario(scenario, PLAN, Options())[1:]
        for one in found:
            one["metadata"].pop("namespace")
            one["metadata"].pop("annotations", None)
            if one["kind"] == "Deployment":
                one["spec"]["template"]["metadata"].pop("annotations")
        return found

    assert plain("direct") == plain("sidecar") == plain("meshd-slow") == plain("meshd-fast")


def beside(pod: dict[str, Any], kind: str = "podAffinity") -> str:
    (term,) = pod["affinity"][kind]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert (term["namespaces"], term["topologyKey"]) == (["meshd-bench"], "kubernetes.io/hostname")
    return str(term["labelSelector"]["matchLabels"][objects.PLACE])


def test_all_are_on_the_nodes_that_two_pods_hold() -> None:
    holding = {
        name: one["spec"]["template"]["spec"] for name, one in named("Deployment", "meshd-bench").items()
    }
    assert holding["client"]["affinity"] == {}
    assert beside(holding["server"], "podAntiAffinity") == "client"
    for scenario in SCENARIOS:
        servers = named("Deployment", f"meshd-bench-{scenario}")
        assert {name: beside(one["spec"]["template"]["spec"]) for name, one in servers.items()} == {
            "near": "client",
            "far": "server",
        }
    assert {beside(job["spec"]["template"]["spec"]) for job in named("Job").values()} == {"client"}


def test_one_node_is_enough_for_one_placement() -> None:
    near = Plan(SCENARIOS, plan.standard_loads(("same-node",)), 1, 1, ())
    assert [one["metadata"]["name"] for one in objects.places(near, Options())] == ["meshd-bench", "client"]
    kinds = [one["metadata"]["name"] for one in objects.scenario("direct", near, Options())]
    assert "far" not in kinds


def test_a_plan_without_routes_needs_no_gateway_api() -> None:
    plain = Plan(SCENARIOS, (Load("same-node"), Load("same-node", protocol="grpc", route=True)), 1, 1, ())
    assert objects.routes("direct", plain, "HTTPRoute") == []
    assert [one["metadata"]["name"] for one in objects.routes("direct", plain, "GRPCRoute")] == [
        "near-routed-grpc",
        "near-routed-grpc-stream",
    ]


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_what_is_served_is_written_before_the_server_starts(tmp_path: Path, shell: str) -> None:
    server = named("Deployment", "meshd-bench-direct")["near"]["spec"]["template"]["spec"]
    _, flags, script, name, *sizes = server["initContainers"][0]["command"]
    assert sizes == ["16", "1024", "16384", "1048576"]
    subprocess.run([shell, flags, script.replace("/srv", str(tmp_path)), name, *sizes], check=True)
    for file, content in nginx.files(map(int, sizes)).items():
        assert (tmp_path / file).read_bytes() == content
    config = named("ConfigMap", "meshd-bench-direct")["server"]["data"]["nginx.conf"]
    assert "location = /bytes/1048576 { root .; }" in config


def test_streams_have_their_server_where_they_are_measured() -> None:
    def containers(plan: Plan) -> list[str]:
        found = objects.scenario("meshd-fast", plan, Options(image="ours:1"))
        servers = [
            one["spec"]["template"]["spec"]["containers"] for one in found if one["kind"] == "Deployment"
        ]
        return [one["image"] for server in servers for one in server if one["name"] == "echo"]

    assert containers(PLAN) == ["ours:1", "ours:1"]
    assert containers(Plan(SCENARIOS, (Load("same-node", protocol="grpc"),), 1, 1, ())) == []


def test_a_jobs_task_is_its_run() -> None:
    for run, job in zip((run for run in PLAN.runs() if run.round == 1), named("Job").values(), strict=True):
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = task(container["args"][0])
        assert given.load == run.load
        meshd = run.scenario.startswith("meshd")
        assert given.captured == ("by meshd" if meshd else "by nobody else")


def test_task_and_finding_come_back_as_they_were() -> None:
    given = Task(Load("two-nodes", 3, rate=5), 2, 7, "by meshd")
    assert task(argument(given)) == given
    found = Finding(round=Round(round=1, rps=2.0), latencies=[(1, 2)])
    assert finding(f"before\n{line(found)}\nafter\n") == found


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "no result: it is empty"),
        ("Traceback: no wrk", "no result: Traceback: no wrk"),
        ('MESHD-BENCH {"round": 3}', "cannot be read"),
    ],
)
def test_a_log_without_a_finding_says_what_it_has(output: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        finding(output)


def pod(*containers: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": c} for c in containers]},
        "status": status,
    }


def test_a_sidecar_is_where_it_should_be_and_nowhere_else() -> None:
    alone, beside_one = pod("load"), pod("load", "istio-proxy")
    assert pods.wrong_way("direct", [alone]) == pods.wrong_way("sidecar", [beside_one]) == ""
    assert "no sidecar was injected" in pods.wrong_way("sidecar", [beside_one, alone])
    assert "istio-proxy" in pods.wrong_way("meshd-fast", [beside_one])


def test_a_load_is_done_though_its_sidecar_goes_on() -> None:
    running = {"name": "istio-proxy", "state": {"running": {}}}
    ended = {"name": "load", "state": {"terminated": {"exitCode": 0}}}
    assert pods.finished(pod("load", containerStatuses=[running, ended]))
    assert not pods.finished(pod("load", containerStatuses=[running]))
    assert pods.finished(pod("load", phase="Failed"))


def test_an_image_that_is_not_there_is_hopeless() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    assert pods.hopeless(
        pod("load", containerStatuses=[{"name": "load", "state": {"waiting": waiting}}])
    ) == ("container load: ImagePullBackOff: no such image")
    assert pods.hopeless(pod("load", containerStatuses=[{"name": "load", "state": {"running": {}}}])) == ""


def test_a_pod_says_what_it_waits_for() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}
    assert pods.waits_for(pod("load", conditions=[unscheduled])) == "it has no node: 0/1 nodes are available"
    assert pods.waits_for(pod("load", phase="Pending")) == "it is Pending"
    assert not pods.ready(pod("load", conditions=[unscheduled, {"type": "Ready", "status": "False"}]))


@pytest.mark.parametrize("text", ["", "a", "a=", "=b"])
def test_a_sidecar_label_is_key_and_value(text: str) -> None:
    with pytest.raises(ValueError, match="is not KEY=VALUE"):
        sidecar_label(text)
    assert sidecar_label("istio.io/rev=1-30") == ("istio.io/rev", "1-30")
