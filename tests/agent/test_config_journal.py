"""The config that an agent leaves to the next one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from meshd.agent import config_journal
from meshd.agent.config_journal import ConfigJournal
from meshd.model.snapshot import Snapshot, difference
from tests.xds.example import service


def plain(snapshot: Snapshot | None) -> object:
    return snapshot and msgspec.to_builtins(snapshot.as_delta())


def versions() -> list[Snapshot]:
    found = [service("a"), service("a", "b"), service("b"), service("b", address="10.1.0.9"), Snapshot()]
    for generation, snapshot in enumerate(found, 1):
        snapshot.generation = generation
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.journal"


@pytest.mark.parametrize("min_rewrite", [0, 1 << 20], ids=["folded", "appended"])
def test_the_last_one_is_read(path: Path, monkeypatch: pytest.MonkeyPatch, min_rewrite: int) -> None:
    monkeypatch.setattr(config_journal, "MIN_REWRITE_BYTES", min_rewrite)
    journal = ConfigJournal(path)
    assert journal.read() is None
    last = Snapshot()
    for snapshot in versions():
        journal.keep(difference(last, snapshot), snapshot)
        assert plain(ConfigJournal(path).read()) == plain(snapshot)
        last = snapshot


def test_it_does_not_grow_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_journal, "MIN_REWRITE_BYTES", 1000)
    journal, last = ConfigJournal(path), Snapshot()
    for n in range(200):
        snapshot = service("a", address=f"10.1.0.{n}")
        journal.keep(difference(last, snapshot), snapshot)
        last = snapshot
        assert path.stat().st_size < 3000


def test_a_change_that_is_cut_off_is_left_out(path: Path) -> None:
    first, second, *_ = versions()
    journal = ConfigJournal(path)
    journal.keep(difference(Snapshot(), first), first)
    whole = path.stat().st_size
    journal.keep(difference(first, second), second)
    content = path.read_bytes()
    for cut in range(whole, len(content)):
        path.write_bytes(content[:cut])
        assert plain(ConfigJournal(path).read()) == plain(first)
    # The next agent does not add to what is cut off.
    ConfigJournal(path).keep(difference(first, second), second)
    assert plain(ConfigJournal(path).read()) == plain(second)
