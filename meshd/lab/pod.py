"""One pod's life: network, hosts file, enrolment, containers, and its graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from meshd import log
from meshd.lab.carrier import Carrier
from meshd.lab.container import ContainerRun
from meshd.lab.decisions.addressing import NodeNet
from meshd.lab.decisions.environment import environment, expanded
from meshd.lab.decisions.podview import Phase, PodView
from meshd.lab.manifests.objects import GRPC_XDS_ENABLED, GRPC_XDS_KEY, Container
from meshd.lab.mesh import CONTROL
from meshd.lab.names import GRPC_BOOTSTRAP_FILE, HOSTS_FILE, env_file, log_file
from meshd.lab.probing import Prober
from meshd.lab.system import cgroup, netspace, network, process
from meshd.lab.system.process import Surroundings
from meshd.lab.system.sandbox import Sandbox
from meshd.xds.grpc_bootstrap import FILE_VARIABLE, Client, bootstrap

_logger = logging.getLogger("meshd.lab.pod")

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "VIRTUAL_ENV")
_PROBE_LOG = "probes.log"


class Places(msgspec.Struct, frozen=True):
    """Where a pod's things are."""

    netns: Path
    cgroup: Path
    folder: Path
    node_netns: Path

    @property
    def hosts(self) -> Path:
        """The file that stands in for /etc/hosts."""
        return self.folder / HOSTS_FILE

    @property
    def grpc_bootstrap(self) -> Path:
        """How gRPC clients find the control plane, where the pod wants them to."""
        return self.folder / GRPC_BOOTSTRAP_FILE

    def log(self, container: str) -> Path:
        """A container's output."""
        return self.folder / log_file(container)


class PodRun:
    """A pod from its creation to its removal. ``changed`` is called whenever its view changes."""

    def __init__(
        self,
        view: PodView,
        number: int,
        node: NodeNet,
        places: Places,
        working_folder: str,
        template: str,
        owner: str,
        mesh: Carrier | None,
        publish: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self._view = view
        self.number = number
        self.places = places
        self.mesh = mesh
        self.template = template
        """A hash of what it was made from."""
        self.owner = owner
        """Namespace and name of its Deployment; empty for a Pod of its own."""
        self.created = time.monotonic()
        self.wired = False
        """Its network namespace is there and takes service rules."""
        self._node = node
        self._working_folder = working_folder
        self._publish = publish
        self._changed = changed
        self._containers: list[ContainerRun] = []
        self._sidecar = mesh.sidecar(view) if mesh is not None else None
        self._proxy: ContainerRun | None = None
        """The sidecar, once it runs."""
        self._terminating = False
        self._failure = ""
        self._task = asyncio.create_task(self._run(), name=f"pod {view.namespace}/{view.name}")
        self._task.add_done_callback(self._finished)

    @property
    def container_names(self) -> list[str]:
        """Of all that write logs, the pod's own first."""
        sidecar = self._sidecar
        return [c.name for c in self._view.spec.containers] + ([sidecar.container.name] if sidecar else [])

    @property
    def view(self) -> PodView:
        """The pod, now."""
        runs = self._containers
        everything = [*runs, *([self._proxy] if self._proxy is not None else [])]
        phase = Phase.PENDING
        if runs:
            phase = Phase.RUNNING
            if all(run.ended for run in runs):
                phase = Phase.FAILED if any(run.exit_code for run in runs) else Phase.SUCCEEDED
        waiting = "; ".join(f"{r.spec.name}: {r.reason}" for r in everything if not r.ready and r.reason)
        return dataclasses.replace(
            self._view,
            phase=phase,
            probed_ready=bool(runs) and all(run.ready for run in everything),
            terminating=self._terminating,
            restarts=sum(run.restarts for run in everything),
            reason=self._failure
            or ("terminating" if self._terminating else waiting or ("" if runs else "starting")),
        )

    @property
    def _has_grpc_xds(self) -> bool:
        """Whether its gRPC clients are to find services themselves, be it in the mesh or not."""
        return self._view.annotations.get(GRPC_XDS_KEY) == GRPC_XDS_ENABLED

    async def _run(self) -> None:
        view, places = self._view, self.places
        try:
            await self._prepare()
            sandbox = Sandbox(places.cgroup, places.netns, places.hosts, view.name)
            runs = [self._container(spec, sandbox, view.spec.restart_policy) for spec in view.spec.containers]
            proxy = self._make_proxy()
        except (OSError, network.NetworkError, process.StartError) as error:
            self._failure = f"cannot be set up: {error}"
            log.event(_logger, logging.ERROR, "pod failed", pod=f"{view.namespace}/{view.name}", reason=error)
            self._changed()
            return
        async with asyncio.TaskGroup() as tasks:
            if proxy is not None:
                self._proxy = proxy
                tasks.create_task(proxy.run())
                await proxy.until_ready()
            self._containers = runs
            self._changed()
            await asyncio.gather(*(run.run() for run in runs))
            if proxy is not None and self.mesh is not None:
                await self.mesh.finish(view)
                proxy.stop()

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            name = f"{self._view.namespace}/{self._view.name}"
            self._failure = f"internal error: {error!r}"
            log.event(_logger, logging.ERROR, "pod task failed", pod=name, reason=repr(error))
            self._changed()

    async def _prepare(self) -> None:
        view, places = self._view, self.places
        places.folder.mkdir(parents=True, exist_ok=True)
        places.cgroup.mkdir(parents=True, exist_ok=True)
        places.hosts.touch()
        if self._has_grpc_xds:
            client = Client(view.name, view.namespace, view.node)
            places.grpc_bootstrap.write_bytes(bootstrap(CONTROL, client))
        await network.make_pod(places.netns, places.node_netns, self._node, self.number)
        self.wired = True
        await self._publish()  # names and services work before the first container runs
        if self.mesh is not None:
            await self.mesh.add(view, places.netns)

    def _make_proxy(self) -> ContainerRun | None:
        """The sidecar's run: restarted whatever the pod's policy, as Kubernetes' sidecar containers are."""
        sidecar = self._sidecar
        if sidecar is None:
            return None
        if any(spec.name == sidecar.container.name for spec in self._view.spec.containers):
            raise process.StartError(f"a container cannot be named {sidecar.container.name}: the sidecar is")
        sidecar.cgroup.mkdir(parents=True, exist_ok=True)
        places = self.places
        sandbox = Sandbox(sidecar.cgroup, places.netns, places.hosts, self._view.name, sidecar.group)
        return self._container(sidecar.container, sandbox, "Always")

    def _container(self, spec: Container, sandbox: Sandbox, restart_policy: str) -> ContainerRun:
        base = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        if self._has_grpc_xds:
            base[FILE_VARIABLE] = str(self.places.grpc_bootstrap)
        env = environment(spec, self._view, base)
        (self.places.folder / env_file(spec.name)).write_bytes(msgspec.json.encode(env))
        expanded_spec = msgspec.structs.replace(
            spec,
            command=tuple(expanded(word, env) for word in spec.command),
            args=tuple(expanded(word, env) for word in spec.args),
        )
        inside = Surroundings(
            sandbox, self.places.log(spec.name), env, spec.working_dir or self._working_folder
        )
        prober = None
        if spec.readiness_probe is not None:
            probing = dataclasses.replace(inside, log=self.places.folder / _PROBE_LOG)
            prober = Prober(spec, spec.readiness_probe, self._view.ips[0], self.places.node_netns, probing)
        return ContainerRun(
            expanded_spec,
            restart_policy,
            inside,
            prober,
            self._changed,
        )

    def mark_terminating(self) -> None:
        """From now on its endpoints are terminating; ``end`` does the rest."""
        self._terminating = True

    async def end(self) -> None:
        """Stop the containers (preStop, SIGTERM, grace period, SIGKILL), then remove all that the pod had."""
        grace = float(self._view.spec.termination_grace_period_seconds)
        deadline = time.monotonic() + grace
        if not self._containers:
            self._task.cancel()
            if self._proxy is not None:
                self._proxy.stop()
        elif self.mesh is not None:
            await self.mesh.drain(self._view)
        await asyncio.gather(*(self._stop(run, grace) for run in self._containers))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wait(), max(0.0, deadline - time.monotonic()))
        await self.discard()

    async def _stop(self, run: ContainerRun, grace: float) -> None:
        await run.pre_stop(grace)
        run.stop()

    async def _wait(self) -> None:
        """Until nothing of the pod runs: the containers' first processes may leave children behind."""
        while True:
            if not any(cgroup.populated(group) for group in self._groups()):
                return
            await asyncio.sleep(0.02)

    def _groups(self) -> tuple[Path, ...]:
        """The cgroups in which something of the pod runs."""
        return (self.places.cgroup, *((self._sidecar.cgroup,) if self._sidecar is not None else ()))

    async def discard(self) -> None:
        """Kill what is left and remove the cgroup, the network namespace and the files."""
        name = f"{self._view.namespace}/{self._view.name}"
        for group in self._groups():
            if not await cgroup.remove(group):
                log.event(_logger, logging.WARNING, "pod's cgroup not removed", pod=name, cgroup=group)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.mesh is not None:
            self.mesh.remove(self._view)
        self.wired = False
        netspace.remove(self.places.netns)
        shutil.rmtree(self.places.folder, ignore_errors=True)
