"""A worker presents itself to an agent: it fills a slot, or others succeed it. Real processes of both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path

import msgspec
import pytest

from meshd.agent.succession import Part, part_of
from meshd.agent.worker_slot import WorkerSlot, WorkerState
from meshd.agent.worker_start import WorkerStart
from meshd.agent.workers import Greeting, Workers
from meshd.build import Build, own_build
from meshd.model.snapshot import Delta
from meshd.model.wire import Drain, FromWorker, Hello, Holding, Replace, ToWorker
from meshd.model.workload import Workload
from tests.control.running import until

OURS = Build("ours", "wire")
SECONDS = 60.0


def _hello(build: str = "ours", wire: str = "wire", draining: bool = False) -> Hello:
    return Hello(pid=1, worker=0, version="", generation=0, build=build, wire=wire, draining=draining)


@pytest.mark.parametrize(
    ("hello", "has_slot", "has_vacancy", "part"),
    [
        (_hello(), True, False, Part.FILLS),  # it reconnects
        (_hello(), False, True, Part.FILLS),  # an earlier agent's
        (_hello(), False, False, Part.SUCCEEDED),  # there are to be fewer
        (_hello(draining=True), True, False, Part.SUCCEEDED),  # somebody has ended it
        (_hello("other"), False, True, Part.SUCCEEDED),
        (_hello("other", "other"), False, True, Part.STRANGE),
        (_hello("", ""), False, True, Part.STRANGE),  # of before there were builds
    ],
)
def test_a_workers_part(hello: Hello, has_slot: bool, has_vacancy: bool, part: Part) -> None:
    assert part_of(hello, OURS, has_slot, has_vacancy) is part


def test_what_versions_have_in_common_is_still_understood() -> None:
    """These bytes are of the first version that had a successor; they must be read as they were then."""
    workload = {
        "uid": "u", "namespace": "n", "name": "p", "netns": "/x", "ips": ["10.0.0.1"],
    }  # fmt: skip
    hello = {"type": "Hello", "pid": 1, "worker": 2, "version": "0.1.0", "generation": 3, "workloads": ["u"]}
    common: dict[str, str | bool] = {"build": "b", "wire": "w", "draining": True}
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    assert decode(encode({**hello, **common, "novel": 1}), type=FromWorker) == Hello(
        pid=1, worker=2, version="0.1.0", generation=3, workloads=("u",), build="b", wire="w", draining=True
    )
    held = Workload(uid="u", namespace="n", name="p", netns="/x", ips=("10.0.0.1",))
    holding = {"type": "Holding", "workload": workload, "novel": 1}
    assert decode(encode(holding), type=FromWorker) == Holding(workload=held)
    drain = {"type": "Drain", "seconds": 3.0, "idle_seconds": 1.0, "novel": 1}
    assert decode(encode(drain), type=ToWorker) == Drain(seconds=3.0, idle_seconds=1.0)


def test_a_build_is_that_of_the_files() -> None:
    assert own_build() == own_build()
    assert len({*own_build()}) == 2


class _Agent:
    """The part of an agent that keeps workers, with a config that is empty."""

    def __init__(self, folder: Path, count: int, build: Build) -> None:
        self.configured = asyncio.Event()
        greeting = Greeting(
            configure=lambda slot, hello: self.send_config(slot),
            replace=self.send_config,
            holding=lambda *_: None,
            outcomes=lambda _: None,
            demand=lambda *_: None,
        )
        start = WorkerStart(build, places=8, drain_seconds=20.0)
        self.workers = Workers(count, folder, greeting, start, self.configured)

    def send_config(self, slot: WorkerSlot) -> None:
        slot.send(Replace(snapshot=Delta(generation=1)))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[_Agent]:
        task = asyncio.create_task(self.workers.run(self.workers.listen()))
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def serving(self) -> dict[int, int]:
        """Place -> pid of the workers in the slots."""
        return {slot.place: slot.pid for slot in self.workers.slots if slot.serves}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for file in tmp_path.glob("worker-*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def _run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def test_workers_of_the_same_build_are_taken_over_and_those_too_many_end(folder: Path) -> None:
    async def scenario() -> None:
        async with _Agent(folder, 2, OURS).running() as first:
            await until(lambda: len(first.serving()) == 2, "workers", SECONDS)
            before = first.serving()
        async with _Agent(folder, 1, OURS).running() as second:
            await until(second.serving, "workers", SECONDS)
            kept = second.serving()
            assert kept.items() <= before.items()
            (other,) = set(before.values()) - set(kept.values())
            await until(lambda: second.workers.succeeded, "workers", SECONDS)
            assert _alive(other)  # until there is a config
            second.configured.set()
            await until(lambda: not _alive(other) and not second.workers.succeeded, "workers", SECONDS)
            assert second.serving() == kept

    _run(scenario)


@pytest.mark.parametrize("wire", ["wire", "other"])
def test_a_worker_of_another_build_goes_once_another_serves(folder: Path, wire: str) -> None:
    async def scenario() -> None:
        async with _Agent(folder, 1, OURS).running() as first:
            await until(first.serving, "workers", SECONDS)
            (old,) = first.serving().values()
        async with _Agent(folder, 1, Build("next", wire)).running() as second:
            await until(lambda: second.serving() and second.workers.succeeded, "workers", SECONDS)
            ((place, new),) = second.serving().items()
            assert (place, new != old, _alive(old)) == (1, True, True)
            succeeded = second.workers.succeeded[old]
            assert succeeded.state is WorkerState.SUCCEEDED
            assert succeeded.speaks is (wire == "wire")
            second.configured.set()
            await until(lambda: not _alive(old) and not second.workers.succeeded, "workers", SECONDS)
            assert second.serving() == {1: new}

    _run(scenario)


def test_a_worker_that_somebody_ends_is_replaced_at_once(folder: Path) -> None:
    async def scenario() -> None:
        async with _Agent(folder, 1, OURS).running() as agent:
            await until(agent.serving, "workers", SECONDS)
            (old,) = agent.serving().values()
            os.kill(old, signal.SIGTERM)
            await until(lambda: agent.serving() and old not in agent.serving().values(), "workers", SECONDS)

    _run(scenario)


def test_a_worker_without_an_agent_ends(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "proxy", "--socket", str(tmp_path / "none"), "--worker", "0")
    with subprocess.Popen((*command, "--orphaned-after", "0.1"), stderr=subprocess.PIPE, text=True) as worker:
        _, log = worker.communicate(timeout=SECONDS)
    assert worker.returncode == 0
    assert "no agent has come: ending" in log
