"""A lab node whose pods have an Envoy each: the files and addresses that these need."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from pathlib import Path

import msgspec

from meshd import log
from meshd.lab.carrier import Carrier, Sidecar
from meshd.lab.decisions.addressing import FABRIC_ADDRESS, NodeNet
from meshd.lab.decisions.podview import PodView
from meshd.lab.envoys import admin as envoy_admin
from meshd.lab.envoys import bootstrap as envoy
from meshd.lab.envoys import sidecar
from meshd.lab.manifests.objects import Container, HTTPGetAction, Probe
from meshd.lab.mesh import CONTROL_PORT
from meshd.lab.names import Lab
from meshd.lab.system import network

_logger = logging.getLogger("meshd.lab.envoys.sidecar")

_BOOTSTRAP = "envoy.json"
_DRAIN_SECONDS = 1.0
"""An Envoy outlives the beginning of its pod's end by so much, until its callers know; in Istio by 5 s."""
_FINISH_SECONDS = 2.0


class SidecarMesh(Carrier):
    """The sidecars of one node's pods."""

    def __init__(self, lab: Lab, node: NodeNet, cgroup_root: Path, concurrency: int) -> None:
        """``concurrency``: worker threads of each Envoy. Raises NoEnvoyError."""
        self._lab = lab
        self._node = node
        self._cgroup_root = cgroup_root
        self._concurrency = concurrency
        self._binary = envoy.find_binary()
        self._captured: set[str] = set()
        self._draining: dict[str, float] = {}
        lab.envoys.mkdir(exist_ok=True)

    def _file(self, pod: PodView) -> Path:
        return self._lab.pod_dir(pod.namespace, pod.name) / _BOOTSTRAP

    async def add(self, pod: PodView, netns: Path) -> None:
        """Write the Envoy's bootstrap; the rules that capture are there already."""
        await network.add_to_loopback(netns, f"{sidecar.FROM_V6}/128")
        self._lab.envoy_admin(pod.ips[0]).unlink(missing_ok=True)
        bootstrap = sidecar.bootstrap(
            pod.name,
            pod.namespace,
            pod.ips,
            (FABRIC_ADDRESS, CONTROL_PORT),
            self._lab.envoy_admin(pod.ips[0]),
        )
        self._file(pod).write_bytes(msgspec.json.encode(bootstrap))
        self._captured.add(pod.uid)

    def remove(self, pod: PodView) -> None:
        """The pod is gone."""
        self._captured.discard(pod.uid)
        self._draining.pop(pod.uid, None)
        self._lab.envoy_admin(pod.ips[0]).unlink(missing_ok=True)

    def sidecar(self, pod: PodView) -> Sidecar:
        """The Envoy, probed as Istio's is."""
        probe = Probe(
            http_get=HTTPGetAction(port=sidecar.HEALTH_PORT, path=sidecar.HEALTH_PATH),
            period_seconds=2,
            timeout_seconds=3,
        )
        group = self._cgroup_root / self._lab.sidecar_cgroup(pod.node, pod.namespace, pod.name)
        container = Container(
            name=sidecar.CONTAINER,
            command=envoy.command(self._binary, self._file(pod), self._concurrency),
            readiness_probe=probe,
        )
        return Sidecar(container, group, sidecar.GROUP)

    def pod_rules(self) -> str:
        """What redirects a pod's connections to its Envoy."""
        node = self._node
        return sidecar.capture_rules((node.gateway_v4, node.gateway_v6, node.fabric_v4, node.fabric_v6))

    async def enrolled(self) -> frozenset[str]:
        """The pods whose connections are redirected; whether their Envoys serve, the pods' readiness says."""
        return frozenset(self._captured)

    async def drain(self, pod: PodView) -> None:
        """Answers close their connections from now on (Istio's agent does the same when it is to end)."""
        self._draining[pod.uid] = time.monotonic()
        await self._asked(pod, "drain", envoy_admin.drain_inbound(self._lab.envoy_admin(pod.ips[0])))

    async def finish(self, pod: PodView) -> None:
        """Until the pod's callers had time to go elsewhere, and have what the app answered last."""
        if pod.uid in self._draining:
            await asyncio.sleep(self._draining[pod.uid] + _DRAIN_SECONDS - time.monotonic())
        await self._asked(pod, "finish", envoy_admin.until_inbound_is_idle(self._lab.envoy_admin(pod.ips[0])))

    @staticmethod
    async def _asked(pod: PodView, what: str, question: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await question
        except (OSError, TimeoutError) as error:
            name = f"{pod.namespace}/{pod.name}"
            reason = str(error) or f"not within {_FINISH_SECONDS:g} s"
            log.event(_logger, logging.INFO, f"sidecar did not {what}", pod=name, reason=reason)
