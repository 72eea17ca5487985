"""Readiness probes as kubelet runs them: HTTP and TCP from the node, exec in the pod."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from meshd import netns
from meshd.lab.manifests.objects import Container, HTTPGetAction, Probe
from meshd.lab.system import process
from meshd.lab.system.process import Surroundings

_MAX_HEAD = 8192


class Verdict:
    """Turns single results into readiness: so many of a kind in a row change it. Pure."""

    def __init__(self, probe: Probe) -> None:
        self.ready = False
        self._success = probe.success_threshold
        self._failure = probe.failure_threshold
        self._streak = 0
        self._last = False

    def take(self, result: bool) -> bool:
        """Count a result; the answer is the readiness after it."""
        self._streak = self._streak + 1 if result == self._last else 1
        self._last = result
        if self._streak >= (self._success if result else self._failure):
            self.ready = result
        return self.ready


class Prober:
    """Runs one container's probe, once, whenever it is asked."""

    def __init__(self, container: Container, probe: Probe, ip: str, node: Path, inside: Surroundings) -> None:
        self._container = container
        self._probe = probe
        self._ip = ip
        self._node = node
        self._inside = inside

    async def once(self) -> tuple[bool, str]:
        """Whether the probe succeeds, and what it saw when it does not."""
        probe = self._probe
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                if probe.http_get is not None:
                    return await self._http(probe.http_get)
                if probe.tcp_socket is not None:
                    (await self._connect(self._port(probe.tcp_socket.port))).close()
                    return True, ""
                if probe.exec is not None:
                    code = await process.run(probe.exec.command, self._inside, probe.timeout_seconds)
                    return code == 0, f"exit code {code}"
        except TimeoutError:
            return False, f"no answer in {probe.timeout_seconds} s"
        except (OSError, process.StartError, asyncio.IncompleteReadError) as error:
            return False, str(error)
        return False, "no probe"

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        return next(p.container_port for p in self._container.ports if p.name == port)

    async def _connect(self, port: int) -> socket.socket:
        home = netns.open_own()
        node = os.open(self._node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.entered(node, home):
                connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        finally:
            os.close(node)
            os.close(home)
        try:
            await asyncio.get_running_loop().sock_connect(connection, (self._ip, port))
        except BaseException:
            connection.close()
            raise
        return connection

    async def _http(self, action: HTTPGetAction) -> tuple[bool, str]:
        port = self._port(action.port)
        headers = {"host": f"{self._ip}:{port}", "user-agent": "kube-probe/meshd-lab", "accept": "*/*"}
        headers |= {header.name.lower(): header.value for header in action.http_headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection = await self._connect(port)
        reader, writer = await asyncio.open_connection(sock=connection, limit=_MAX_HEAD)
        try:
            writer.write(f"GET {action.path} HTTP/1.1\r\n{head}connection: close\r\n\r\n".encode("latin-1"))
            await writer.drain()
            status = (await reader.readuntil(b"\n")).split()
            code = int(status[1]) if len(status) > 1 and status[1].isdigit() else 0
            return 200 <= code < 400, f"HTTP status {code}"
        except asyncio.LimitOverrunError:
            return False, "the answer is not HTTP"
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
