from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.loading.pins import Pins
from tests.datapath.mesh import Mesh
from tests.proxy.worker.agent_end import AgentEnd, WorkerProcess
from tests.proxy.worker.fast_path_bed import FastPathBed, fast_path_bed
from tests.support.cgroup import own_cgroup
from tests.support.http_bed import Script, Server
from tests.support.netns import namespace


@pytest.fixture(scope="module")
def datapath() -> Iterator[Datapath]:
    name = f"mt-{secrets.token_hex(4)}"
    try:
        with own_cgroup() as cgroup:
            opened = ensure_loaded(name, cgroup)
            try:
                yield opened
            finally:
                opened.close()
    finally:
        shutil.rmtree(Pins(name).folder, ignore_errors=True)
        shutil.rmtree(Path("/run/meshd") / name, ignore_errors=True)


@pytest.fixture
def mesh(datapath: Datapath) -> Iterator[Mesh]:
    """A member namespace with in-pod listeners. Only the worker beats."""
    with namespace() as pod, Mesh(datapath, pod) as made:
        made.alive(False)
        yield made


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentEnd]:
    end = AgentEnd(tmp_path / "workers.sock")
    try:
        yield end
    finally:
        end.close()


@pytest.fixture
def worker(tmp_path: Path, agent: AgentEnd) -> Iterator[WorkerProcess]:
    """A worker that has connected and said hello; nothing else."""
    process = WorkerProcess(tmp_path / "workers.sock")
    try:
        hello = agent.accept()
        assert (hello.pid, hello.worker, hello.generation, hello.workloads) == (process.pid, 0, 0, ())
        yield process
    finally:
        process.close()


@pytest.fixture
def serve(mesh: Mesh) -> Iterator[Callable[[Script], Server]]:
    """Starts servers on the pod's loopback."""
    with contextlib.ExitStack() as stack:

        def start(script: Script) -> Server:
            with mesh.pod.entered():
                server = Server(script)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def bed(mesh: Mesh, agent: AgentEnd, worker: WorkerProcess) -> Iterator[FastPathBed]:
    """Worker and kernel together."""
    with fast_path_bed(mesh, agent) as made:
        yield made
