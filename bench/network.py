"""Two pods of a node and the bridge between them, and a pod of another node behind a second bridge: network
namespaces and cgroups that live as long as the measurement."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench import cgroups
from meshd import netns

CLIENT_ADDRESS = "10.77.0.2"
SERVER_ADDRESS = "10.77.0.3"
FAR_SERVER_ADDRESS = "10.79.0.3"
VIP = "10.78.0.1"
FAR_VIP = "10.78.0.2"
_PODS, _FAR_PODS = "10.77.0", "10.79.0"
_UPLINK, _FAR_UPLINK = "10.76.0.1", "10.76.0.2"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Namespace:
    """A network namespace with a name of its own, and the cgroup of what runs in it."""

    def __init__(self, name: str, cgroup: Path | None) -> None:
        _ip("netns", "add", name)
        self.name = name
        self.cgroup = cgroup
        """None: this process's own."""
        self.path = Path("/run/netns") / name
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        _ip("-n", name, "link", "set", "lo", "up")

    def close(self) -> None:
        os.close(self.fd)
        _ip("netns", "del", self.name)


@dataclass(frozen=True, slots=True)
class Node:
    """The network namespace with a node's bridge, which is its pods' gateway."""

    namespace: Namespace
    pods: str
    """The first three numbers of its pods' addresses."""
    cgroup: Path | None
    """Of its pods."""

    @property
    def gateway(self) -> str:
        return f"{self.pods}.1"


class Network:
    """``client`` and ``server``, pods of one node. A context manager."""

    def __init__(self, cgroup: Path | None = None) -> None:
        """``cgroup``: of all that runs on the node; None: this process's own."""
        self.prefix = f"mb-{secrets.token_hex(3)}"
        self.home = netns.open_own()
        self.cgroup = cgroup
        self._all: list[Namespace] = []
        try:
            self._node = self._add_node("near", _PODS, cgroup)
            self.client = self._add_pod(self._node, "client", CLIENT_ADDRESS)
            self.server = self._add_pod(self._node, "server", SERVER_ADDRESS)
        except BaseException:
            self.close()
            raise

    def add_far_server(self, cgroup: Path) -> Namespace:
        """A pod of another node, at FAR_SERVER_ADDRESS: two bridges and two hops away.

        ``cgroup``: of that node. Raises OSError, CalledProcessError.
        """
        far = self._add_node("far", _FAR_PODS, cgroup)
        here, there = self._node.namespace, far.namespace
        _ip("-n", here.name, "link", "add", "uplink", "type", "veth", "peer", "uplink", "netns", there.name)
        ends = ((here, _UPLINK, _FAR_UPLINK, _FAR_PODS), (there, _FAR_UPLINK, _UPLINK, _PODS))
        for end, address, peer, behind in ends:
            _ip("-n", end.name, "address", "add", f"{address}/24", "dev", "uplink")
            _ip("-n", end.name, "link", "set", "uplink", "up")
            _ip("-n", end.name, "route", "add", f"{behind}.0/24", "via", peer)
            with netns.entered(end.fd, self.home):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        return self._add_pod(far, "far-server", FAR_SERVER_ADDRESS)

    def _add(self, name: str, cgroup: Path | None) -> Namespace:
        namespace = Namespace(f"{self.prefix}-{name}", cgroup)
        self._all.append(namespace)
        return namespace

    def _add_node(self, name: str, pods: str, cgroup: Path | None) -> Node:
        node = Node(self._add(name, cgroup), pods, cgroup)
        bridge = node.namespace
        _ip("-n", bridge.name, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge.name, "address", "add", f"{node.gateway}/24", "dev", "br0")
        _ip("-n", bridge.name, "link", "set", "br0", "up")
        return node

    def _add_pod(self, node: Node, name: str, address: str) -> Namespace:
        pod = self._add(name, node.cgroup)
        bridge = node.namespace.name
        _ip("-n", pod.name, "link", "add", "eth0", "type", "veth", "peer", name, "netns", bridge)
        _ip("-n", bridge, "link", "set", name, "master", "br0", "up")
        _ip("-n", pod.name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", pod.name, "link", "set", "eth0", "up")
        # The VIPs need a way out too, or connect() fails before capture can see it.
        _ip("-n", pod.name, "route", "add", "default", "via", node.gateway)
        return pod

    @contextlib.contextmanager
    def at_home(self) -> Iterator[None]:
        """Start processes as the node's own: in its cgroup, and this process's network namespace.

        Raises OSError.
        """
        with contextlib.ExitStack() as stack:
            if self.cgroup is not None:
                stack.enter_context(cgroups.entered(self.cgroup))
            yield

    @contextlib.contextmanager
    def entered(self, where: Namespace) -> Iterator[None]:
        """Start processes as a pod's own: in its network namespace and its cgroup. Raises OSError."""
        with contextlib.ExitStack() as stack:
            if where.cgroup is not None:
                stack.enter_context(cgroups.entered(where.cgroup))
            stack.enter_context(netns.entered(where.fd, self.home))
            yield

    def start(self, where: Namespace, command: Sequence[str], *, output: Path) -> subprocess.Popen[bytes]:
        """Start a process in a pod; what it writes goes to ``output``. Raises OSError."""
        with output.open("ab") as log, self.entered(where):
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(self, where: Namespace, command: Sequence[str], seconds: float) -> str:
        """What a command in a pod writes. Raises OSError, CalledProcessError, TimeoutExpired."""
        with self.entered(where):
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
