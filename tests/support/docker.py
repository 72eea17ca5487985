"""A real Docker engine of a test's own."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.image import pause_image
from tests.support.mounts import unmount_below

_IMAGE = "meshd.test/pause:1"
_SECONDS = 60.0
_BUILD_SECONDS = 600.0


class Docker:
    """The engine, by its own folders and socket, with one network. ``close`` takes it away."""

    def __init__(self, folder: Path, subnet: str) -> None:
        """``subnet``: of its containers' network, as CIDR."""
        self.socket = folder / "docker.sock"
        self._folder = folder
        self._network = f"mt-{secrets.token_hex(3)}"
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                (
                    "dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
                    "--host", f"unix://{self.socket}", "--pidfile", f"{folder}/pid",
                    "--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false",
                ),
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + _SECONDS
        while self._docker("info", check=False).returncode:
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)
        self._docker("load", "--input", str(pause_image(folder, _IMAGE)))
        self._docker("network", "create", "--subnet", subnet, self._network)

    def log(self) -> str:
        """What the engine wrote last."""
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def run(self, name: str, *labels: str, network: str = "") -> str:
        """Start a container that waits to be ended, and give its id. ``network``: by default ours."""
        marks = [text for label in labels for text in ("--label", label)]
        command = ("run", "--detach", "--name", name, "--network", network or self._network, *marks, _IMAGE)
        return self._docker(*command).stdout.strip()

    def load_base(self, base: Path, name: str) -> None:
        """An image of a tar of files, for Dockerfiles to start from, whose steps get packages as we do."""
        certificates = "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt"
        self._docker("import", "--change", certificates, str(base), name)

    def build(self, context: Path, name: str) -> None:
        """An image by a Dockerfile that starts from images that are here."""
        build = ("build", "--network", "host", "--quiet", "--tag", name, str(context))
        self._docker(*build, seconds=_BUILD_SECONDS)

    def save(self, path: Path, *names: str) -> None:
        """Write images to a file."""
        self._docker("save", "--output", str(path), *names, seconds=_BUILD_SECONDS)

    def size(self, name: str) -> int:
        """Of an image, in bytes."""
        return int(self._docker("image", "inspect", "--format", "{{.Size}}", name).stdout)

    def pid(self, name: str) -> int:
        """Of its process."""
        return int(json.loads(self._docker("inspect", name).stdout)[0]["State"]["Pid"])

    def remove(self, *names: str) -> None:
        """Kill and remove."""
        self._docker("rm", "--force", *names)

    def close(self) -> None:
        """Take everything away."""
        try:
            left = self._docker("ps", "--all", "--quiet", check=False).stdout.split()
            if left:
                self.remove(*left)
            self._docker("network", "rm", self._network, check=False)
        finally:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            unmount_below(self._folder)

    def _docker(
        self, *command: str, check: bool = True, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ("docker", "--host", f"unix://{self.socket}", *command),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done


@contextlib.contextmanager
def running_docker(subnet: str) -> Iterator[Docker]:
    """An engine for the body."""
    with tempfile.TemporaryDirectory(prefix="mt-docker-") as folder:
        made = Docker(Path(folder), subnet)
        try:
            yield made
        finally:
            made.close()
