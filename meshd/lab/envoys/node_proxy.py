"""A lab node with one Envoy for all of its pods."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import msgspec

from meshd import log
from meshd.lab.carrier import Carrier
from meshd.lab.daemon import Daemon
from meshd.lab.decisions.addressing import FABRIC_ADDRESS
from meshd.lab.decisions.podview import PodView
from meshd.lab.envoys import admin as envoy_admin
from meshd.lab.envoys import bootstrap as envoy
from meshd.lab.envoys import tproxy
from meshd.lab.mesh import CONTROL_PORT
from meshd.lab.names import Lab
from meshd.lab.system.sandbox import Sandbox

_logger = logging.getLogger("meshd.lab.envoys.node_proxy")

_START_SECONDS = 15.0
_ANSWER_SECONDS = 2.0


class NodeProxy(Carrier):
    """The Envoy of one node."""

    def __init__(self, lab: Lab, node: str, cgroup_root: Path, concurrency: int) -> None:
        """Start it. ``concurrency``: its worker threads. Raises NoEnvoyError, OSError."""
        self._node = node
        self._captured: set[str] = set()
        self._admin = lab.envoy_admin(node)
        lab.envoys.mkdir(exist_ok=True)
        config = lab.envoys / f"{node}.json"
        bootstrap = tproxy.bootstrap(node, (FABRIC_ADDRESS, CONTROL_PORT), self._admin)
        config.write_bytes(msgspec.json.encode(bootstrap))
        group = cgroup_root / lab.node_cgroup(node) / "envoy"
        group.mkdir(parents=True, exist_ok=True)
        self._daemon = Daemon(
            f"envoy-{node}",
            envoy.command(envoy.find_binary(), config, concurrency),
            Sandbox(group, lab.netns(node)),
            lab.log(f"envoy-{node}"),
        )
        self._give_up = time.monotonic() + _START_SECONDS

    def node_rules(self) -> str:
        """What brings the pods' connections to the Envoy."""
        return tproxy.capture_rules()

    async def add(self, pod: PodView, netns: Path) -> None:
        """Wait, as long as is sensible, until the Envoy serves; the pod's own namespace stays as it is."""
        self._captured.add(pod.uid)
        while not await self._ready():
            if time.monotonic() > self._give_up:
                name = f"{pod.namespace}/{pod.name}"
                log.event(_logger, logging.WARNING, "pod starts before its node's Envoy serves", pod=name)
                return
            await asyncio.sleep(0.05)

    def remove(self, pod: PodView) -> None:
        """The pod is gone."""
        self._captured.discard(pod.uid)

    async def _ready(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await envoy_admin.is_ready(self._admin)
        except (OSError, TimeoutError):
            return False

    async def enrolled(self) -> frozenset[str] | None:
        """All pods that were added, while the Envoy serves."""
        return frozenset(self._captured) if await self._ready() else None

    async def stop(self) -> None:
        """End the Envoy."""
        await self._daemon.stop()
