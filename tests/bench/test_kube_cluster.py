"""``meshd bench --kube`` against an API server, through a real kubectl: all is deleted, come what may."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshd.bench.kube.task import Finding, line, task
from meshd.bench.results import Report, Round, decode
from meshd.cli.main import main
from tests.kube_api.kubeconfig import kubeconfig
from tests.support import bench_sample
from tests.support.bench_cluster import BenchCluster, bench_cluster
from tests.support.lab import MESHD, until

LOAD = ("--connections", "4", "--rounds", "1", "--duration", "1", "--placement", "same-node")
_SECONDS = 150

Output = Callable[[dict[str, Any]], str]


def answered(pod: dict[str, Any]) -> str:
    """As a Job writes it whose load went well: meshd is twice as fast."""
    of = task(pod["spec"]["containers"][0]["args"][0])
    rps = 200.0 if of.captured == "by meshd" else 100.0
    found = Round(round=of.number, rps=rps, p50_us=5.0, p99_us=7.0)
    wrote = Finding(round=found, latencies=[(5, 98), (7, 2)], machine=bench_sample.MACHINE)
    return f"a warning\n{line(wrote)}\n"


def wrong(pod: dict[str, Any]) -> str:
    of = task(pod["spec"]["containers"][0]["args"][0])
    return line(Finding(wrong="a 503 among the answers", round=Round(round=of.number, errors=3)))


def failing(pod: dict[str, Any]) -> str:
    if pod["metadata"]["namespace"] == "meshd-bench-meshd-fast":
        return line(Finding(failed="meshd does not capture its connections"))
    return answered(pod)


class Bed:
    """A cluster, and the command that measures it."""

    def __init__(self, cluster: BenchCluster, environment: dict[str, str]) -> None:
        self.cluster = cluster
        self._environment = environment

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [*MESHD, "bench", "--kube", "-o", "json", *LOAD, *arguments]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=self._environment)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=_SECONDS)
        return process.returncode, out, err

    def report(self, *arguments: str) -> Report:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return decode(out.encode())


@pytest.fixture
def bed(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bed]:
    output: Output = getattr(request, "param", answered)
    with bench_cluster(output) as cluster:
        path = kubeconfig(tmp_path, cluster.url)
        yield Bed(cluster, {**os.environ, "KUBECONFIG": str(path), "HOME": str(tmp_path)})
    assert cluster.namespaces() <= {"mine", "meshd-bench-direct"}, "something is left"


def test_a_run_reports_every_scenario_and_deletes_everything(bed: Bed) -> None:
    found = bed.report("--route", "yes", "--placement", "two-nodes", "--rounds", "2")
    assert bed.cluster.objects == []
    assert not found.partial
    assert found.machine.cluster == "Kubernetes v1.32.4, client on node-a, server on node-b"
    rows = {row.scenario: row for row in found.results}
    measured = {name for name, row in rows.items() if not row.not_measured}
    assert measured == {"direct", "sidecar", "meshd-slow", "meshd-fast"}
    assert "a namespace cannot choose it" in rows["node-proxy"].not_measured
    assert [one.round for one in rows["direct"].rounds] == [1, 2]
    assert rows["direct"].histogram[-1] == (1.0, 7.0)
    ratio = next(r for r in found.ratios if (r.scenario, r.to, r.figure) == ("meshd-fast", "direct", "rps"))
    assert (ratio.value, ratio.rounds) == (2.0, 2)
    jobs = [one["metadata"]["namespace"] for one in bed.cluster.created]
    assert sorted(jobs[:4]) == sorted(jobs[4:]) == sorted(f"meshd-bench-{name}" for name in measured)


def test_ctrl_c_leaves_a_partial_report_and_a_clean_cluster(bed: Bed) -> None:
    with bed.start("--rounds", "50") as process:
        # They run one after the other: when there is a third, the first has ended.
        until(lambda: len(bed.cluster.created) > 2, _SECONDS)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_SECONDS)
    assert process.returncode == 130, err
    assert bed.cluster.objects == []
    found = decode(out.encode())
    assert found.partial
    assert sum(len(row.rounds) for row in found.results) > 0


@pytest.mark.parametrize("bed", [failing], indirect=True)
def test_a_job_that_fails_is_a_row_with_its_reason(bed: Bed) -> None:
    found = bed.report("--scenario", "direct,meshd-fast")
    reasons = {row.scenario: row.not_measured for row in found.results}
    assert reasons == {"direct": "", "meshd-fast": "meshd does not capture its connections"}


@pytest.mark.parametrize("bed", [wrong], indirect=True)
def test_errors_are_no_figures(bed: Bed) -> None:
    (found,) = bed.report("--scenario", "direct").results
    assert (found.rps, found.errors, found.not_measured) == (None, 3, "a 503 among the answers")


def test_without_an_injector_there_is_no_sidecar_row(bed: Bed) -> None:
    bed.cluster.injected_label = ("nobody", "asks")
    found = bed.report("--scenario", "direct,sidecar")
    reasons = {row.scenario: row.not_measured for row in found.results}
    assert reasons["direct"] == ""
    assert "no sidecar was injected" in reasons["sidecar"]


def test_without_gateway_api_routes_are_not_measured(bed: Bed) -> None:
    del bed.cluster.server.installed["httproutes"]
    found = bed.report("--scenario", "direct", "--route", "no,yes")
    reasons = {row.route: row.not_measured for row in found.results}
    assert reasons[False] == ""
    assert "its HTTPRoute was refused" in reasons[True]


def test_namespaces_that_are_left_over_are_refused_and_left_alone(bed: Bed) -> None:
    labels = {"app.kubernetes.io/managed-by": "meshd-bench"}
    bed.cluster.namespace("mine", **labels)
    code, out, err = bed.run()
    assert (code, out) == (1, "")
    assert "kubectl delete namespace mine" in err
    assert bed.cluster.namespaces() == {"mine"}


def test_a_namespace_that_is_somebody_elses_is_not_deleted(bed: Bed) -> None:
    bed.cluster.namespace("meshd-bench-direct")
    code, _, err = bed.run()
    assert code == 1
    assert "already exists" in err
    assert bed.cluster.namespaces() == {"meshd-bench-direct"}


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(msgspec.json.encode({"apiVersion": "v1", "kind": "Config"}))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
    command = [*MESHD, "bench", "--kube", *LOAD]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("meshd bench: kubectl version: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dry-run",), "--dry-run is for --kube"),
        (("--image", "x"), "--image is for --kube"),
        (("--sidecar-label", "a=b"), "--sidecar-label is for --kube"),
        (("--kube", "-o", "yaml"), "-o yaml is for --dry-run"),
        (("--from", "x", "-o", "yaml"), "-o yaml is for --dry-run"),
        (("--kube", "--from", "x"), "--from measures nothing"),
        (("--kube", "--memory-pods", "10"), "--memory-pods is not for --kube"),
        (("--kube", "--sidecar-label", "istio"), "'istio' is not KEY=VALUE"),
    ],
)
def test_options_that_have_no_meaning_are_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", *arguments])
    assert message in capsys.readouterr().err


def test_a_dry_run_needs_no_cluster(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    command = [*MESHD, "bench", "--kube", "--dry-run", "-o", "yaml", *LOAD]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=_SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("apiVersion: v1\nkind: Namespace\n")
