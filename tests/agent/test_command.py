from __future__ import annotations

import fcntl
import secrets
import shutil
import subprocess
import sys

import pytest

from meshd.paths import run_dir

AGENT = (sys.executable, "-m", "meshd", "agent", "--node", "n")


def test_a_second_agent_of_an_instance_is_refused() -> None:
    instance = f"mt-{secrets.token_hex(4)}"
    folder = run_dir(instance)
    folder.mkdir(parents=True)
    try:
        with (folder / "agent.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            command = [*AGENT, "--instance", instance]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1
    assert done.stderr.startswith(f"meshd agent: an agent of instance '{instance}' runs already")


def test_bad_addresses_are_usage_errors() -> None:
    for address in ("15020", "127.0.0.1:x", "127.0.0.1:70000"):
        command = [*AGENT, "--metrics-listen", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 2
        assert "is not HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--control", "a:1,,b:2"), "--control a:1,,b:2: an address is empty"),
        (
            ("--control-ca", "c", "--control-key", "k"),
            "--control-cert and --control-key go together",
        ),
        (
            ("--control-cert", "c", "--control-key", "k"),
            "--control-cert needs TLS: give --control-ca, too",
        ),
        (("--control-token-file", "t"), "--control-token-file needs TLS: give --control-ca, too"),
    ],
)
def test_nothing_secret_is_shown_to_just_anybody(options: tuple[str, ...], message: str) -> None:
    done = subprocess.run([*AGENT, *options], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (1, f"meshd agent: {message}\n")


def test_a_cgroup_that_is_none_is_said() -> None:
    instance = f"mt-{secrets.token_hex(4)}"
    try:
        command = [*AGENT, "--instance", instance, "--cgroup", "/proc/self"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        shutil.rmtree(run_dir(instance), ignore_errors=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "/proc/self" in done.stderr
