"""``meshd control`` as a process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.control.running import web

DEADLINE = 60.0


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "meshd", "control", *arguments], stderr=subprocess.PIPE, text=True
    )
    killer = threading.Timer(3 * DEADLINE, process.kill)
    killer.start()
    try:
        yield process
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"no line with {text!r} before the end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_starts_reports_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    manifests = tmp_path / "m"
    manifests.mkdir()
    (manifests / "web.yaml").write_text(web(path="x"))
    path = tmp_path / "s"
    with started("--manifests", str(manifests), "--listen", "127.0.0.1:0", "--uds", str(path)) as process:
        line = line_with(process, "problem")
        assert "file=web.yaml" in line
        assert 'object="HTTPRoute default/web"' in line
        assert "field=spec.rules[0].matches[0].path.value" in line
        line_with(process, '"new version"')
        (manifests / "web.yaml").write_text(web())
        line_with(process, '"problem gone"')
        os.kill(process.pid, number)
        line_with(process, "stopped")
        assert process.wait(DEADLINE) == 0


def failing(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "meshd", "control", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_no_such_directory(tmp_path: Path) -> None:
    message = failing("--manifests", str(tmp_path / "none"))
    assert message == f"meshd control: --manifests {tmp_path}/none: not a directory"


def test_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = failing("--manifests", str(tmp_path), "--listen", address)
        assert message.startswith(f"meshd control: cannot listen on {address}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tls-cert", "c"), "--tls-cert and --tls-key go together"),
        (("--client-ca", "c"), "--client-ca needs TLS: give --tls-cert and --tls-key, too"),
        (("--tokens-file", "t"), "--tokens-file needs TLS: give --tls-cert and --tls-key, too"),
        (("--tls-cert", "c", "--tls-key", "k"), "TLS: c: No such file or directory"),
        (
            ("--tls-cert", "c", "--tls-key", "k", "--tokens-file", "t"),
            "--tokens-file: t: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_served_safely_is_not_served(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert failing("--manifests", str(tmp_path), *arguments) == f"meshd control: {message}"
