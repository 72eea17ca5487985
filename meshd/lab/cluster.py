"""The lab's control loops: Deployments become pods, Services become endpoints, and all of it is published."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
import uuid
from pathlib import Path

from meshd import log
from meshd.kube.objects import Key
from meshd.lab.carrier import Carrier
from meshd.lab.decisions.addressing import AddressError, NodeNet
from meshd.lab.decisions.hosts import hosts_file
from meshd.lab.decisions.podview import Phase, PodView
from meshd.lab.decisions.resolution import names, targets
from meshd.lab.decisions.rollout import Replica, next_step, template_hash
from meshd.lab.decisions.service_rules import ruleset
from meshd.lab.decisions.slices import endpoint_slices, pod_object, slice_object
from meshd.lab.decisions.store import Store
from meshd.lab.manifests.files import Manifest
from meshd.lab.manifests.objects import EndpointSlice, PodSpec
from meshd.lab.names import Lab
from meshd.lab.pod import Places, PodRun
from meshd.lab.publishing import HostsFiles, ManifestFolder, ServiceRules

_logger = logging.getLogger("meshd.lab.cluster")

_SETTLE = 0.005
"""Seconds that changes are gathered for before they are acted upon."""
_MAX_PODS = 400


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node of the lab; without ``mesh`` in a lab that has none."""

    net: NodeNet
    mesh: Carrier | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    """What a pod is made from."""

    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: PodSpec
    folder: str
    hash: str
    owner: str = ""


class Cluster:
    """All pods of the lab and what is derived from them. One task (``run``) makes all decisions."""

    def __init__(self, lab: Lab, nodes: list[Node], cgroup_root: Path) -> None:
        self.store = Store()
        self.nodes = nodes
        self.pods: dict[tuple[str, str], PodRun] = {}
        self._lab = lab
        self._cgroup_root = cgroup_root
        self._manifests = ManifestFolder(lab.manifests)
        self._hosts = HostsFiles()
        self._rules = ServiceRules()
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._last_number: dict[str, int] = {}

    async def run(self) -> None:
        """Act on changes until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(_SETTLE)
            self._changed.clear()
            await self.settle()

    def poke(self) -> None:
        """Something changed."""
        self._changed.set()

    async def apply(self, manifests: list[Manifest]) -> list[tuple[str, str]]:
        """Create or update objects and act on them. Raises InvalidObjectError."""
        results = self.store.apply(manifests)
        await self.settle()
        return results

    async def delete(self, manifests: list[Manifest]) -> list[tuple[str, str]]:
        """Remove objects and act on it. Raises InvalidObjectError."""
        results = self.store.delete(manifests)
        await self.settle()
        return results

    async def settle(self) -> None:
        """Do all that the state asks for now, and publish it."""
        ending = self._reconcile()
        await self.publish()
        for run in ending:  # their endpoints are published as terminating by now
            self._end(run)

    def _reconcile(self) -> list[PodRun]:
        """Start what is missing; the pods that are to end, already marked."""
        wanted: dict[tuple[str, str], _Template] = {
            (pod.metadata.namespace, pod.metadata.name): _Template(
                namespace=pod.metadata.namespace,
                name=pod.metadata.name,
                labels=pod.metadata.labels,
                annotations=pod.metadata.annotations,
                spec=pod.spec,
                folder=folder,
                hash=template_hash(pod),
            )
            for pod, folder in self.store.pods()
        }
        ending = [
            run
            for key, run in self.pods.items()
            if not run.owner
            and not run.view.terminating
            and (key not in wanted or wanted[key].hash != run.template)
        ]
        for key, template in wanted.items():
            if key not in self.pods:
                self._start(template)
        ending += self._roll_out()
        for run in ending:
            run.mark_terminating()
        return ending

    def _roll_out(self) -> list[PodRun]:
        ending: list[PodRun] = []
        owners: set[str] = set()
        now = time.monotonic()
        for deployment, folder in self.store.deployments():
            meta, template = deployment.metadata, deployment.spec.template
            owner = f"{meta.namespace}/{meta.name}"
            owners.add(owner)
            hashed = template_hash(template)
            runs = {
                run.view.name: run
                for run in self.pods.values()
                if run.owner == owner and not run.view.terminating
            }
            replicas = [Replica(n, r.template, r.view.ready, now - r.created) for n, r in runs.items()]
            step = next_step(deployment.spec.replicas, hashed, deployment.spec.strategy, replicas)
            ending += [runs[name] for name in step.delete]
            for _ in range(step.create):
                self._start(
                    _Template(
                        namespace=meta.namespace,
                        name=f"{meta.name}-{hashed}-{secrets.token_hex(3)[:5]}",
                        labels={**template.metadata.labels, "pod-template-hash": hashed},
                        annotations=template.metadata.annotations,
                        spec=template.spec,
                        folder=folder,
                        hash=hashed,
                        owner=owner,
                    )
                )
        ending += [
            run
            for run in self.pods.values()
            if run.owner and run.owner not in owners and not run.view.terminating
        ]
        return ending

    def _start(self, template: _Template) -> None:
        name = f"{template.namespace}/{template.name}"
        node = self._node_for(template)
        if node is None or len(self.pods) >= _MAX_PODS:
            reason = f"no node {template.spec.node_name}" if node is None else f"{_MAX_PODS} pods run already"
            log.event(_logger, logging.ERROR, "pod not started", pod=name, reason=reason)
            return
        taken = {run.number for run in self.pods.values() if run.view.node == node.net.name}
        try:
            number = node.net.pod(taken, self._last_number.get(node.net.name, 0))
        except AddressError as error:
            log.event(_logger, logging.ERROR, "pod not started", pod=name, reason=error)
            return
        self._last_number[node.net.name] = number
        view = PodView(
            namespace=template.namespace,
            name=template.name,
            uid=str(uuid.uuid4()),
            labels=template.labels,
            annotations=template.annotations,
            spec=template.spec,
            node=node.net.name,
            host_ip=node.net.fabric_v4,
            ips=node.net.pod_ips(number),
            phase=Phase.PENDING,
            probed_ready=False,
            terminating=False,
            restarts=0,
            reason="",
        )
        enrolled = self.store.in_mesh(template.namespace, template.labels, template.annotations)
        lab = self._lab
        places = Places(
            lab.pod_netns(view.namespace, view.name),
            self._cgroup_root / lab.pod_cgroup(view.node, view.namespace, view.name),
            lab.pod_dir(view.namespace, view.name),
            lab.netns(view.node),
        )
        self.pods[view.namespace, view.name] = PodRun(
            view,
            number,
            node.net,
            places,
            template.folder,
            template.hash,
            template.owner,
            node.mesh if enrolled else None,
            self.publish,
            self.poke,
        )
        log.event(_logger, logging.INFO, "pod created", pod=name, node=view.node, ip=view.ips[0])

    def _node_for(self, template: _Template) -> Node | None:
        """The node asked for, else the one with the fewest pods of the same owner, then with the fewest."""
        if template.spec.node_name:
            return next((node for node in self.nodes if node.net.name == template.spec.node_name), None)

        def load(node: Node) -> tuple[int, int]:
            here = [run for run in self.pods.values() if run.view.node == node.net.name]
            return sum(bool(template.owner) and run.owner == template.owner for run in here), len(here)

        return min(self.nodes, key=load)

    def _end(self, run: PodRun) -> None:
        async def end() -> None:
            view = run.view
            await run.end()
            self.pods.pop((view.namespace, view.name), None)
            log.event(_logger, logging.INFO, "pod removed", pod=f"{view.namespace}/{view.name}")
            self.poke()

        task = asyncio.create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def enrolled(self) -> dict[str, frozenset[str] | None]:
        """By node, the uids of the pods that its agent captures; None where it does not answer."""
        nodes = [(node.net.name, node.mesh) for node in self.nodes if node.mesh is not None]
        answers = await asyncio.gather(*(mesh.enrolled() for _, mesh in nodes))
        return {name: answer for (name, _), answer in zip(nodes, answers, strict=True)}

    def slices(self) -> list[EndpointSlice]:
        """All endpoint slices: those that follow from selectors, and the user's."""
        views = [run.view for run in self.pods.values()]
        return [
            one for service, _ in self.store.services() for one in endpoint_slices(service, views)
        ] + self.store.slices()

    async def publish(self) -> None:
        """Write what follows from the state now: manifests, hosts files, service rules."""
        async with self._publishing:
            services, slices = self.store.services(), self.slices()
            runs = list(self.pods.values())
            self._manifests.write(self._for_control_plane(slices, [run.view for run in runs]))
            known = names(services, slices)
            self._hosts.write(
                {
                    run.places.hosts: hosts_file(run.view.namespace, run.view.name, run.view.ips, known)
                    for run in runs
                    if run.wired
                }
            )
            found = targets(services, slices)
            everything, unmeshed = ruleset(found), ruleset(found, frozenset({"UDP"}))
            rules = {
                self._lab.netns(node.net.name): everything + (node.mesh.node_rules() if node.mesh else "")
                for node in self.nodes
            }
            rules |= {
                run.places.netns: everything if run.mesh is None else unmeshed + run.mesh.pod_rules()
                for run in runs
                if run.wired
            }
            await self._rules.load(rules)

    def _for_control_plane(
        self, slices: list[EndpointSlice], views: list[PodView]
    ) -> dict[Key, dict[str, object]]:
        derived = {
            Key("EndpointSlice", one.metadata.namespace, one.metadata.name): slice_object(one)
            for one in slices
        }
        pods = {Key("Pod", view.namespace, view.name): pod_object(view) for view in views}
        return derived | pods | self.store.for_control_plane()

    async def stop(self) -> None:
        """End all pods, gracefully, and wait for it."""
        runs = [run for run in self.pods.values() if not run.view.terminating]
        for run in runs:
            run.mark_terminating()
        await self.publish()
        for run in runs:
            self._end(run)
        if self._ending:
            await asyncio.wait(self._ending)
