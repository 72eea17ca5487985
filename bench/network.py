"""Two pods and the bridge between them: network namespaces that live as long as the measurement."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from meshd import netns

CLIENT_ADDRESS = "10.77.0.2"
SERVER_ADDRESS = "10.77.0.3"
VIP = "10.78.0.1"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Namespace:
    """A network namespace with a name of its own."""

    def __init__(self, name: str) -> None:
        _ip("netns", "add", name)
        self.name = name
        self.path = Path("/run/netns") / name
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        _ip("-n", name, "link", "set", "lo", "up")

    def close(self) -> None:
        os.close(self.fd)
        _ip("netns", "del", self.name)


class Network:
    """``client`` and ``server``, each with eth0 on a bridge in a third namespace. A context manager."""

    def __init__(self) -> None:
        prefix = f"mb-{secrets.token_hex(3)}"
        self.home = netns.open_own()
        self._all: list[Namespace] = []
        try:
            fabric = self._add(f"{prefix}-fabric")
            _ip("-n", fabric.name, "link", "add", "br0", "type", "bridge")
            _ip("-n", fabric.name, "link", "set", "br0", "up")
            self.client = self._pod(f"{prefix}-client", fabric, CLIENT_ADDRESS, "veth0")
            self.server = self._pod(f"{prefix}-server", fabric, SERVER_ADDRESS, "veth1")
            # The VIP needs a way out, or connect() fails before capture can see it.
            _ip("-n", self.client.name, "route", "add", "default", "via", SERVER_ADDRESS)
        except BaseException:
            self.close()
            raise

    def _add(self, name: str) -> Namespace:
        namespace = Namespace(name)
        self._all.append(namespace)
        return namespace

    def _pod(self, name: str, fabric: Namespace, address: str, port: str) -> Namespace:
        pod = self._add(name)
        _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", port, "netns", fabric.name)
        _ip("-n", fabric.name, "link", "set", port, "master", "br0", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        return pod

    def start(
        self, where: Namespace | None, command: Sequence[str], *, output: Path, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process in a namespace, or at home; what it writes goes to ``output``."""
        with output.open("ab") as log, netns.entered(where.fd if where else self.home, self.home):
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd)

    def run(self, where: Namespace, command: Sequence[str], seconds: float) -> str:
        """What a command in a namespace writes. Raises CalledProcessError, TimeoutExpired."""
        with netns.entered(where.fd, self.home):
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        try:
            output, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, output, errors)
        return output

    def close(self) -> None:
        """Remove the namespaces and all that is in them."""
        while self._all:
            self._all.pop().close()
        os.close(self.home)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
