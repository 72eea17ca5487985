"""Parts of the mesh die under traffic: what stops, what goes on, what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import MESHD, Lab, running_lab, until


@pytest.fixture(scope="module")
def hurt(pods: Path) -> Iterator[Lab]:
    """A lab whose processes the tests kill."""
    with running_lab(pods / "pods.yaml") as running:
        yield running


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _healthy(lab: Lab) -> bool:
    return (
        all(worker.state == "serving" for worker in lab.status().workers)
        and lab.code("http://aiohttp/") == "200"
    )


KEEP_ASKING = """
import http.client, json, sys, time
connection = http.client.HTTPConnection("aiohttp", 80, timeout=60)
count, errors = 0, []
deadline = time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline:
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        count += 1
    except Exception as error:
        errors.append(repr(error))
        connection.close()
    time.sleep(0.005)
print(json.dumps({"count": count, "errors": errors}))
"""


@contextlib.contextmanager
def _traffic(lab: Lab, seconds: float) -> Iterator[dict[str, object]]:
    """Requests on one keep-alive connection while the body runs; the result is filled in at its end."""
    command = [
        *MESHD,
        "lab",
        "--name",
        lab.name,
        "exec",
        "client",
        "--",
        "/usr/bin/python3",
        "-c",
        KEEP_ASKING,
    ]
    process = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
    result: dict[str, object] = {}
    try:
        yield result
        output, _ = process.communicate(timeout=seconds + 100)
        result.update(json.loads(output))
    finally:
        process.kill()
        process.wait()


def test_a_stuck_proxy_means_open_or_closed_as_the_service_says(hurt: Lab) -> None:
    assert "x-forwarded-proto" in hurt.get("http://threaded/")["headers"]
    agent = hurt.status().pid
    worker = hurt.status().workers[0].pid
    with _stopped(agent), _stopped(worker):

        def failed_open() -> bool:
            return "x-forwarded-proto" not in hurt.get("http://threaded/", "--max-time", "5")["headers"]

        until(failed_open)
        assert hurt.get("http://threaded/")["peer"] == hurt.pod("client")["ip"]
        script = "import socket; socket.create_connection(('closed', 80), 60)"
        refused = hurt.run("exec", "client", "--", "/usr/bin/python3", "-c", script, check=False)
        assert refused.stderr.splitlines()[-1] == "ConnectionRefusedError: [Errno 111] Connection refused"
    until(lambda: "x-forwarded-proto" in hurt.get("http://threaded/")["headers"])
    until(lambda: hurt.code("http://closed/") == "200")


def test_a_killed_worker_is_replaced_and_the_listeners_live_on(hurt: Lab) -> None:
    port = next(w.port for w in hurt.workloads() if w.name == "client")
    killed = hurt.status().workers[0].pid
    os.kill(killed, signal.SIGKILL)
    until(lambda: hurt.status().workers[0].pid != killed and _healthy(hurt))
    assert next(w.port for w in hurt.workloads() if w.name == "client") == port
    assert hurt.status().workers[0].restarts >= 1


def test_traffic_does_not_notice_that_the_agent_was_killed(hurt: Lab) -> None:
    until(lambda: _healthy(hurt))
    before = hurt.status()
    with _traffic(hurt, 6) as result:
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: hurt.status().pid != before.pid and _healthy(hurt))
    assert result["errors"] == []
    after = hurt.status()
    assert [w.pid for w in after.workers] == [w.pid for w in before.workers]
    assert after.generation >= before.generation
    assert next(w.port for w in hurt.workloads() if w.name == "client")


def test_new_pods_are_enrolled_by_the_new_agent(hurt: Lab, pods: Path) -> None:
    extra = pods / "extra.yaml"
    extra.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: late}\n"
        "spec: {nodeName: node1, containers: [{name: c, command: [sleep, '600']}]}\n"
    )
    hurt.run("apply", "-f", str(extra))
    until(lambda: any(w.name == "late" and w.enrolled for w in hurt.workloads()))
    assert "x-forwarded-proto" in hurt.get("http://threaded/", pod="late")["headers"]
    hurt.run("delete", "-f", str(extra))
    until(lambda: all(w.name != "late" for w in hurt.workloads()))
    extra.unlink()


def test_the_last_config_serves_while_the_control_plane_is_away(hurt: Lab) -> None:
    (control,) = _processes(b"control", hurt)
    with _stopped(control):
        assert hurt.code("http://aiohttp/") == "200"
    os.kill(control, signal.SIGKILL)
    assert hurt.code("http://aiohttp/") == "200"
    until(lambda: hurt.status().control.connected)
    assert hurt.code("http://aiohttp/") == "200"


def _processes(command: bytes, lab: Lab) -> list[int]:
    """Our processes of that meshd command that belong to the lab."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (path / "cmdline").read_bytes().split(b"\0")
            ours = f"/run/meshd/labs/{lab.name}/".encode()
            if command in arguments and any(ours in argument for argument in arguments):
                found.append(int(path.name))
    return found


def test_pods_come_and_go_without_a_trace(hurt: Lab, pods: Path) -> None:
    until(lambda: _healthy(hurt))
    extra = pods / "churn.yaml"
    extra.write_text(
        "\n---\n".join(
            f"apiVersion: v1\nkind: Pod\nmetadata: {{name: churn{n}}}\n"
            "spec: {nodeName: node1, terminationGracePeriodSeconds: 0, "
            "containers: [{name: c, command: [sleep, '600']}]}\n"
            for n in range(4)
        )
    )

    def held() -> tuple[int, ...]:
        status = hurt.status()
        pids = [status.pid, *(worker.pid for worker in status.workers)]
        return tuple(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in pids)

    def round_trip() -> None:
        hurt.run("apply", "-f", str(extra))
        until(lambda: sum(w.enrolled for w in hurt.workloads() if w.name.startswith("churn")) == 4)
        for n in range(4):
            hurt.code("http://threaded/", pod=f"churn{n}")
        hurt.run("delete", "-f", str(extra))
        until(lambda: all(not w.name.startswith("churn") for w in hurt.workloads()))

    round_trip()
    before = held()
    for _ in range(2):
        round_trip()
    until(lambda: held() <= before)
    until(lambda: hurt.status().capture.flows == 0)
