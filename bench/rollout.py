"""What a Deployment that rolls, and pods that vanish, cost those who ask: ``python -m bench.rollout``.

What is measured, how, and what the figures are worth: bench/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench import labs, slow_server
from meshd.bench import distribution, manifests, own_tool, testbed
from meshd.bench.guards import BusyError
from meshd.bench.own_tool import Report
from meshd.bench.results import Scenario
from meshd.bench.samples import LoadError
from meshd.bench.testbed import Bed, BedError
from meshd.lab.command.client import LabError, ask
from meshd.lab.command.protocol import GetStatus, PodStatus, Status
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

NAME, PORT, REPLICAS, NODES = "web", 8080, 4, 2
ANSWER_MILLISECONDS = 20
"""What the server takes for an answer: so much is out at any moment."""
CONNECTIONS = 64
SCENARIOS: tuple[Scenario, ...] = ("meshd-fast", "meshd-slow")
_DRAIN_SECONDS = 5.0
_SETTLE_SECONDS = 1.0
"""Of load before the first event."""
_AWAY_SECONDS = 2.0
"""A pod that was killed comes back after so long; one that was cut off, after the load."""
_READY_SECONDS = 30.0
_VANISH_SECONDS = 6.0
"""What one takes, with its coming back: none begins later before the load's end."""


class Vanished(NamedTuple):
    """A pod without processes and without network."""

    pod: PodStatus
    at: int
    """time.monotonic_ns, just before."""
    held: int
    """Requests that its server had taken and not answered."""
    connections: int
    """To its server: a request that it had not read yet was on one of these."""


class Row(NamedTuple):
    """A run."""

    scenario: Scenario
    what: str
    report: Report
    detail: str


def _objects(version: int) -> list[dict[str, Any]]:
    """The client, the Deployment and its Service."""
    container = {
        "name": "server",
        "command": [
            sys.executable, str(Path(slow_server.__file__)), str(PORT), str(ANSWER_MILLISECONDS), "$(POD).out"
        ],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "VERSION", "value": str(version)},
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
    }  # fmt: skip
    labels = {"app": NAME}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
    }
    return [*manifests.client(), deployment, service]


def _write(manifest: Path, version: int) -> None:
    manifest.write_text(yaml.safe_dump_all(_objects(version), sort_keys=False))


def _pods(bed: Bed) -> list[PodStatus]:
    return [pod for pod in ask(bed.lab, GetStatus(), Status).pods if pod.owner == NAME]


def _until_whole(bed: Bed) -> None:
    """All replicas are ready, and no other pod is left. Raises BedError, LabError."""
    deadline = time.monotonic() + _READY_SECONDS
    while len(pods := _pods(bed)) != REPLICAS or not all(pod.ready for pod in pods):
        if time.monotonic() > deadline:
            states = ", ".join(f"{pod.name}: {pod.reason or pod.phase}" for pod in pods)
            raise BedError(f"the Deployment is not whole within {_READY_SECONDS:g} s: {states}")
        time.sleep(0.05)


def _loaded(bed: Bed, rate: int, seconds: int, body: Callable[[float], None]) -> Report:
    """Run the load, and ``body`` until the time (time.monotonic) that it is given.

    Raises LoadError, LabError, BedError, OSError.
    """
    command = [
        sys.executable, "-m", "meshd.bench.open_loop", NAME, str(PORT), "/", "--endure",
        "--body", str(len(slow_server.BODY)), "--rate", str(rate), "--seconds", str(seconds),
        "--drain", str(_DRAIN_SECONDS), "--connections", str(CONNECTIONS), "--protocol", "http1",
    ]  # fmt: skip
    with bed.running(command) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if (line := process.stdout.readline()).strip() != own_tool.READY:
            raise own_tool.not_started(line, process.stderr.read())
        process.stdin.write("\n")
        process.stdin.flush()
        end = time.monotonic() + seconds
        time.sleep(_SETTLE_SECONDS)
        body(end)
        out, said = process.communicate(timeout=seconds + _DRAIN_SECONDS + _READY_SECONDS)
    report = own_tool.decoded(out) if out else Report(failed=said.strip()[-300:])
    if report.failed:
        raise LoadError(f"the load tool failed: {report.failed}")
    return report


def _rollouts(bed: Bed, manifest: Path, rate: int, seconds: int) -> Row:
    """One after the other for as long as there is load. Raises as _loaded."""
    done = 0

    def roll(end: float) -> None:
        nonlocal done
        longest = 0.0
        while (began := time.monotonic()) + longest < end:
            _write(manifest, done + 1)
            if reason := testbed.wait(bed.apply(manifest, int(_READY_SECONDS)), 2 * _READY_SECONDS):
                raise BedError(f"rollout {done + 1}: {reason}")
            _until_whole(bed)
            done += 1
            longest = max(longest, time.monotonic() - began)

    report = _loaded(bed, rate, seconds, roll)
    return Row(bed.scenario, "rollouts", report, f"{done} rollouts, {done * REPLICAS} pods replaced")


def _ip(*arguments: str) -> str:
    """Raises BedError."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        raise BedError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class _Wire:
    """The node's end of a pod's network. Raises BedError."""

    def __init__(self, lab: Lab, pod: PodStatus) -> None:
        self._node = lab.netns(pod.node).name
        (inner,) = json.loads(
            _ip("-j", "-n", lab.pod_netns(pod.namespace, pod.name).name, "link", "show", "eth0")
        )
        links = json.loads(_ip("-j", "-n", self._node, "link", "show"))
        self._name = next(link["ifname"] for link in links if link["ifindex"] == inner["link_index"])

    def set(self, state: str) -> None:
        """Up or down: nothing passes, and nobody is told."""
        _ip("-n", self._node, "link", "set", self._name, state)


def _kill(bed: Bed, pod: PodStatus) -> None:
    """End its processes; they have ended. Raises BedError."""
    group = cgroup.find_root() / bed.lab.pod_cgroup(pod.node, pod.namespace, pod.name)
    cgroup.kill(group)
    deadline = time.monotonic() + 5
    while cgroup.populated(group):
        if time.monotonic() > deadline:
            raise BedError(f"pod {pod.name} does not end")
        time.sleep(0.0005)


def _vanish(bed: Bed, pod: PodStatus, wire: _Wire, silently: bool) -> Vanished:
    """Take a pod's processes and its network away. Raises BedError, OSError.

    ``silently``: the network first, so that no FIN or RST tells of the processes' end.
    """
    netns = bed.lab.pod_netns(pod.namespace, pod.name).name
    command = ["ss", "-Htn", "-N", netns, "state", "established", f"sport = :{PORT}"]
    listed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if listed.returncode != 0:
        raise BedError(f"ss: {listed.stderr.strip()}")
    at = time.monotonic_ns()
    if silently:
        wire.set("down")
    _kill(bed, pod)
    if not silently:
        wire.set("down")
    held = slow_server.count(bed.folder / f"{pod.name}.out")
    return Vanished(pod, at, held, len(listed.stdout.splitlines()))


def _vanishings(bed: Bed, rate: int, seconds: int, silently: bool) -> Row:
    """One pod after the other; of those that do not come back, one of each node. Raises as _loaded."""
    gone: list[Vanished] = []
    pods = _pods(bed)
    if silently:
        pods = list({pod.node: pod for pod in pods}.values())

    def take_away(end: float) -> None:
        for pod in pods:
            if time.monotonic() + _VANISH_SECONDS > end:
                break
            wire = _Wire(bed.lab, pod)
            afterwards.callback(wire.set, "up")
            gone.append(_vanish(bed, pod, wire, silently))
            time.sleep(_AWAY_SECONDS)
            if not silently:
                wire.set("up")
                _until_whole(bed)

    with contextlib.ExitStack() as afterwards:
        report = _loaded(bed, rate, seconds, take_away)
    ends = [*(one.at for one in gone[1:]), sys.maxsize]
    parts = [
        f"{sum(one.at <= when < end for when, _ in report.failures)} failed of {one.held} held,"
        f" {one.connections} connections"
        for one, end in zip(gone, ends, strict=True)
    ]
    return Row(bed.scenario, "cut off" if silently else "killed", report, "; ".join(parts))


def _measured(scenario: Scenario, options: argparse.Namespace) -> list[Row]:
    """In a lab of its own. Raises what labs.running and _loaded raise."""
    with tempfile.TemporaryDirectory(prefix="meshd-bench-") as folder:
        bed = Bed(scenario, Lab(f"roll{scenario.removeprefix('meshd-')}"), Path(folder))
        manifest = bed.folder / "pods.yaml"
        _write(manifest, 0)
        with labs.running({bed: manifest}, nodes=NODES):
            rows = []
            for run in options.runs:
                _until_whole(bed)
                if run == "rollouts":
                    row = _rollouts(bed, manifest, options.rate, options.seconds)
                else:
                    row = _vanishings(bed, options.rate, options.seconds, silently=run == "cut-off")
                print(_line(row), file=sys.stderr)
                for reason, count in Counter(reason for _, reason in row.report.failures).most_common(5):
                    print(f"  {count} x {reason}", file=sys.stderr)
                rows.append(row)
            return rows


def _line(row: Row) -> str:
    report = row.report
    unanswered = report.sent - report.answered - len(report.failures)
    figures = distribution.percentiles(distribution.histogram(report.latencies))
    times = ", ".join(f"{micros / 1000:.0f}" for micros in (figures.p50, figures.p99, figures.max))
    rate = report.answered / report.seconds if report.seconds else 0.0
    return (
        f"| {row.scenario} | {row.what} | {report.sent:,} | {len(report.failures)} | {unanswered} |"
        f" {rate:,.0f} | {times} ms | {row.detail} |"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.rollout", description=__doc__)
    parser.add_argument("--rate", type=int, default=1000, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=24, help="of each run (default: %(default)s)")
    parser.add_argument("--scenario", dest="scenarios", action="append", choices=SCENARIOS)
    runs = ("rollouts", "killed", "cut-off")
    parser.add_argument("--run", dest="runs", action="append", choices=runs)
    found = parser.parse_args()
    found.runs = found.runs or runs
    found.scenarios = found.scenarios or SCENARIOS
    return found


def main() -> int:
    options = _arguments()
    if missing := labs.missing(options.scenarios):
        print(f"bench.rollout: {missing}", file=sys.stderr)
        return 1
    try:
        rows = [row for scenario in options.scenarios for row in _measured(scenario, options)]
    except KeyboardInterrupt:
        return 130
    except (BedError, BusyError, LabError, LoadError, OSError, subprocess.TimeoutExpired) as error:
        print(f"bench.rollout: {error}", file=sys.stderr)
        return 1
    print("| scenario | run | requests | failed | unanswered | rate | p50, p99, max | |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in rows:
        print(_line(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
