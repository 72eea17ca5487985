"""exec, status and logs, and what the lab says when something is wrong."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.lab import MESHD, Lab, until

_POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  {spec}
"""


@pytest.mark.parametrize("code", [0, 42, 255])
def test_exec_passes_the_exit_code(plain_lab: Lab, code: int) -> None:
    assert plain_lab.run("exec", "client", "--", "sh", "-c", f"exit {code}", check=False).returncode == code


def test_exec_dies_of_the_signal_that_its_command_dies_of(plain_lab: Lab) -> None:
    assert plain_lab.run("exec", "client", "--", "sh", "-c", "kill -9 $$", check=False).returncode == -9


def test_exec_passes_standard_input_and_output(plain_lab: Lab) -> None:
    done = subprocess.run(
        [*MESHD, "lab", "--name", plain_lab.name, "exec", "client", "--", "tee", "/dev/stderr"],
        input=b"\x00\xffbytes\n",
        capture_output=True,
        check=True,
    )
    assert done.stdout == done.stderr == b"\x00\xffbytes\n"


def test_exec_leaves_the_terminal_to_the_command(plain_lab: Lab) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "rb+", buffering=0) as terminal:
        subprocess.run(
            [*MESHD, "lab", "--name", plain_lab.name, "exec", "client", "--", "tty"],
            stdin=terminal,
            stdout=terminal,
            check=True,
        )
        assert os.read(ours, 100).startswith(b"/dev/pts/")
    os.close(ours)


def test_exec_is_in_the_pod(plain_lab: Lab) -> None:
    assert plain_lab.exec("near", "hostname").strip() == "near"
    assert plain_lab.exec("near", "sh", "-c", "echo $NAME").strip() == "near"
    groups = plain_lab.exec("near", "cat", "/proc/self/cgroup")
    assert f"0::/meshd-{plain_lab.name}/node1/pods/default_near\n" in groups


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("exec", "nobody", "--", "true"), 1, "there is no nobody in namespace default; pods there: client"),
        (("exec", "deploy/nobody", "--", "true"), 1, "there is no deploy/nobody in namespace default"),
        (("exec", "client", "--", "no-such-command"), 127, "cannot run no-such-command: No such file"),
        (("exec", "client", "--", "/etc/hosts"), 126, "cannot run /etc/hosts: Permission denied"),
        (("logs", "client", "-c", "third"), 1, "pod client has no container third; it has client, second"),
        (("up",), 1, "is running already"),
        (("apply", "-f", "/nowhere.yaml"), 1, "/nowhere.yaml: no such file or folder"),
        (("up", "--mode", "magic"), 2, "invalid choice: 'magic'"),
        (("up", "--nodes", "0"), 2, "'0' is not a number from 1 to 16"),
        (("up", "--mode", "none", "--workers", "2"), 2, "--workers is for --mode meshd"),
        (("up", "--mode", "sidecar", "--fast-path", "off"), 2, "mode sidecar has no use for it"),
        (("up", "--mode", "node-proxy", "--access-log", "/x"), 2, "--access-log is for --mode meshd"),
    ],
)  # fmt: skip
def test_errors_are_one_line(plain_lab: Lab, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = plain_lab.run(*arguments, check=False)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_lab_that_does_not_run() -> None:
    lab = Lab("nosuchlab")
    for arguments in (
        ("status",),
        ("exec", "x", "--", "true"),
        ("apply", "-f", str(Path(__file__).parent / "pods")),
    ):
        done = lab.run(*arguments, check=False)
        assert done.returncode == 1
        assert "lab nosuchlab is not running: start it with `meshd lab up`" in done.stderr
    assert lab.run("down").stdout == "lab nosuchlab: there is nothing to remove\n"


def test_a_lab_name_has_no_dash() -> None:
    done = Lab("a-b").run("status", check=False)
    assert done.returncode == 2
    assert "must be 1 to 12 lower-case letters or digits" in done.stderr


def test_status_as_json(plain_lab: Lab) -> None:
    status = plain_lab.cluster()
    assert set(status) == {"nodes", "pods", "services"}
    assert [node["name"] for node in status["nodes"]] == ["node1", "node2"]
    assert plain_lab.pod("far") == {
        "name": "far",
        "namespace": "default",
        "node": "node2",
        "ip": plain_lab.pod("far")["ip"],
        "ready": True,
    }
    service = next(s for s in status["services"] if s["name"] == "all")
    assert service["ports"] == [
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    assert next(s for s in status["services"] if s["name"] == "pods")["ip"] == "None"


def test_status_for_people(plain_lab: Lab) -> None:
    text = plain_lab.run("status").stdout
    assert f"lab {plain_lab.name}, mode none" in text
    assert "10.96.3.4" in text


def test_logs(plain_lab: Lab) -> None:
    assert plain_lab.run("logs", "near").stdout == "near serves\n"
    until(lambda: plain_lab.run("logs", "client", "-c", "second").stdout == "second says $(PLACE) hello\n")


def test_logs_are_followed_until_the_pod_is_gone(plain_lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "pod.yaml"
    script = "trap 'echo ending; exit' TERM; echo begun; while :; do sleep 0.1; done"
    spec = f'{{terminationGracePeriodSeconds: 5, containers: [{{name: a, command: [sh, -c, "{script}"]}}]}}'
    manifest.write_text(f"apiVersion: v1\nkind: Pod\nmetadata: {{name: talker}}\nspec: {spec}\n")
    plain_lab.run("apply", "-f", str(manifest), "--wait", "60")
    with subprocess.Popen(
        [*MESHD, "lab", "--name", plain_lab.name, "logs", "-f", "talker"], stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "begun\n"
        assert plain_lab.run("delete", "-f", str(manifest)).stdout == "Pod default/talker deleted\n"
        assert follower.wait(60) == 0
    until(lambda: all(pod["name"] != "talker" for pod in plain_lab.cluster()["pods"]))


def test_what_is_wrong_with_a_manifest_is_said_at_once_and_changes_nothing(
    plain_lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(
        _POD.format(name="one", spec="containers: [{name: a, image: nginx}]")
        + "---"
        + _POD.format(name="two", spec="containers: [{name: a, command: sleep}]")
    )
    (tmp_path / "b.yaml").write_text("kind: [")
    done = plain_lab.run("apply", "-f", str(tmp_path), check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert "a.yaml: Pod default/one: spec.containers[0].command: required" in lines[0]
    assert "a.yaml: Pod default/two: spec.containers[0].command: expected `array`, got `str`" in lines[1]
    assert "b.yaml: not valid YAML" in lines[2]


def test_two_services_cannot_have_one_address(plain_lab: Lab, tmp_path: Path) -> None:
    manifest = tmp_path / "s.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: thief}\n"
        "spec: {clusterIP: 10.96.3.4, ports: [{port: 80}]}\n"
    )
    done = plain_lab.run("apply", "-f", str(manifest), check=False)
    assert done.returncode == 1
    assert (
        "Service default/thief: spec.clusterIP: 10.96.3.4 is already used by another Service" in done.stderr
    )
