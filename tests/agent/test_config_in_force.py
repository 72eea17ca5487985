from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from meshd.agent.config_in_force import ConfigInForce, without_cold
from meshd.agent.worker_start import WorkerStart
from meshd.agent.workers import Greeting, Workers
from meshd.build import Build
from meshd.datapath.errors import CaptureError
from meshd.model.clusters import Cluster
from meshd.model.listeners import Listener, Protocol
from meshd.model.snapshot import Delta, Snapshot


class Maps:
    """Maps that remember what they hold, and refuse a service called "full"."""

    def __init__(self) -> None:
        self.held: frozenset[str] = frozenset()
        self.history: list[frozenset[str]] = []

    def apply(self, old: Snapshot, new: Snapshot) -> None:
        if "full" in new.listeners:
            raise CaptureError("listener full: no room")
        self.held = frozenset(new.listeners)
        self.history.append(self.held)


def _snapshot(*names: str) -> Snapshot:
    return Snapshot(
        0,
        {
            name: Listener(name=name, service=name, addresses=("10.0.0.1",), port=1, protocol=Protocol.TCP)
            for name in names
        },
        {},
        {name: Cluster(name=name) for name in names},
    )


def _replaced(new: Snapshot, _: Snapshot) -> Snapshot:
    return new


def _config(maps: Maps, folder: Path) -> ConfigInForce:
    workers = Workers(
        1, folder, Greeting(*[lambda *_: None] * 5), WorkerStart(Build("", ""), 2), asyncio.Event()
    )
    return ConfigInForce(maps, workers, folder / "config.journal")


def test_changes_are_numbered_and_kept_for_the_next_agent(tmp_path: Path) -> None:
    async def scenario() -> None:
        maps = Maps()
        config = _config(maps, tmp_path)
        assert not config.restore()
        for generation, names in enumerate([("a",), ("a", "b"), ("b",)], start=1):
            await config.change(partial(_replaced, _snapshot(*names)))
            assert (config.snapshot.generation, maps.held) == (generation, frozenset(names))
        next_maps = Maps()
        again = _config(next_maps, tmp_path)
        assert again.restore()
        assert (again.snapshot.generation, next_maps.held) == (3, frozenset("b"))

    asyncio.run(scenario())


def test_no_change_is_no_generation(tmp_path: Path) -> None:
    async def scenario() -> None:
        config = _config(Maps(), tmp_path)
        await config.change(lambda _: _snapshot("a"))
        await config.change(lambda _: _snapshot("a"))
        assert config.snapshot.generation == 1

    asyncio.run(scenario())


def test_workers_are_told_nothing_of_services_that_are_only_known() -> None:
    old = _snapshot("whole", "cold")
    cold = {name: each.as_cold() for name, each in old.listeners.items()}
    old = old.apply(Delta(generation=1, listeners=(cold["cold"],)))
    turned = Delta(generation=2, listeners=(cold["whole"], old.listeners["whole"]), removed_listeners=("x",))
    told = without_cold(turned, old)
    assert told.listeners == (old.listeners["whole"],)
    assert told.removed_listeners == ("x", "whole")
    # Of what they never had, not even that it is gone.
    still = Delta(generation=2, listeners=(cold["cold"],))
    assert without_cold(still, old) == Delta(generation=2)
    whole = Delta(generation=2, listeners=(old.listeners["whole"],))
    assert without_cold(whole, old) is whole


def test_a_service_that_goes_leaves_the_kernel_before_one_that_comes_enters_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        maps = Maps()
        config = _config(maps, tmp_path)
        await config.change(lambda _: _snapshot("a", "b"))
        maps.history.clear()
        await config.change(lambda _: _snapshot("b", "c"))
        assert maps.history == [frozenset("b"), frozenset("bc")]

    asyncio.run(scenario())


def test_what_the_kernel_refuses_is_in_force_nowhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        maps = Maps()
        config = _config(maps, tmp_path)
        await config.change(lambda _: _snapshot("a"))
        with pytest.raises(CaptureError, match="no room"):
            await config.change(lambda _: _snapshot("b", "full"))
        assert frozenset(config.snapshot.listeners) == maps.held == frozenset("a")
        assert config.announced is config.snapshot
        # Workers were told of the refused one: the number of what replaces it must be higher.
        assert config.snapshot.generation == 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "kept", [b"", b"\xc1", b"\x01\0\0\0\xc1", b"\x0e\0\0\0" + msgspec.msgpack.encode({"generation": "x"})]
)
def test_a_kept_config_that_is_unreadable_is_left_alone(tmp_path: Path, kept: bytes) -> None:
    async def scenario() -> None:
        (tmp_path / "config.journal").write_bytes(kept)
        config = _config(Maps(), tmp_path)
        assert not config.restore()
        assert config.snapshot.as_delta() == Delta(generation=0)

    asyncio.run(scenario())
