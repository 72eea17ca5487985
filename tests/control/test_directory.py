"""Manifests from a directory, as people and Kubernetes change them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from meshd.control import directory
from meshd.control.directory import Directory
from meshd.kube.collection import Content, Unreadable

Next = Callable[[], Awaitable[dict[str, Content]]]


def watching(root: Path, steps: Callable[[Next], Awaitable[None]]) -> None:
    """Run steps against the versions of a directory."""

    async def run() -> None:
        versions = Directory(root).versions()
        files: dict[str, Content] = {}

        async def following() -> dict[str, Content]:
            for path, content in (await asyncio.wait_for(anext(versions), 60)).items():
                if content is None:
                    del files[path]
                else:
                    assert files.get(path) is not content
                    files[path] = content
            return files

        try:
            await steps(following)
        finally:
            await versions.aclose()

    asyncio.run(run())


def test_edits_renames_deletions_and_new_folders(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("1")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.yaml").write_text("x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("x")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        (tmp_path / "a.yaml").write_text("2")
        assert await following() == {"a.yaml": "2"}
        (tmp_path / "b.tmp").write_text("3")
        (tmp_path / "b.tmp").rename(tmp_path / "b.json")
        assert await following() == {"a.yaml": "2", "b.json": "3"}
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "er" / "c.yml").write_text("4")
        assert await following() == {"a.yaml": "2", "b.json": "3", "deep/er/c.yml": "4"}
        (tmp_path / "deep" / "er" / "c.yml").write_text("5")
        assert (await following())["deep/er/c.yml"] == "5"
        (tmp_path / "a.yaml").unlink()
        (tmp_path / "deep").rename(tmp_path / ".deep")
        assert await following() == {"b.json": "3"}

    watching(tmp_path, steps)


def test_config_map_whose_data_link_is_swapped(tmp_path: Path) -> None:
    def version(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    version("..2024_1", "1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        version("..2024_2", "2")
        assert await following() == {"a.yaml": "2"}

    watching(tmp_path, steps)


def test_many_changes_at_once_are_one_version(tmp_path: Path) -> None:
    async def steps(following: Next) -> None:
        assert await following() == {}
        for n in range(200):
            (tmp_path / f"{n}.yaml").write_text(str(n))
        assert len(await following()) == 200

    watching(tmp_path, steps)


def test_what_is_being_written_is_read_when_it_is_closed(tmp_path: Path) -> None:
    """However long the writer takes, and whatever else changes meanwhile."""
    (tmp_path / "a.yaml").write_text("whole")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "whole"}
        with (tmp_path / "a.yaml").open("w") as file:
            file.write("ha")
            file.flush()
            for n in range(3):
                (tmp_path / "b.yaml").write_text(str(n))
                assert await following() == {"a.yaml": "whole", "b.yaml": str(n)}
            (tmp_path / "folder").mkdir()  # everything is looked at
            (tmp_path / "folder" / "c.yaml").write_text("c")
            assert await following() == {"a.yaml": "whole", "b.yaml": "2", "folder/c.yaml": "c"}
            file.write("lf no more")
        assert (await following())["a.yaml"] == "half no more"

    watching(tmp_path, steps)


def test_editor_that_moves_the_file_away_first(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        for n in range(2, 5):
            path.rename(tmp_path / "a.yaml~")
            await asyncio.sleep(0)
            path.write_text(str(n))
            (tmp_path / "a.yaml~").unlink()
            assert await following() == {"a.yaml": str(n)}

    watching(tmp_path, steps)


def test_changes_that_inotify_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "RESCAN_SECONDS", 0.05)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("1")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.yaml").symlink_to(elsewhere)

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        elsewhere.write_text("22")
        assert await following() == {"a.yaml": "22"}

    watching(root, steps)


def test_file_that_is_being_written_keeps_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_SETTLING_NS", 60_000_000_000)
    path = tmp_path / "a.yaml"
    path.write_text("whole")
    manifests = Directory(tmp_path)
    assert manifests.scan() == {"a.yaml": "whole"}
    path.write_text("ha")
    assert manifests.scan() == {}
    assert manifests.unsettled
    path.write_text("half no more")
    os.utime(path, (0, 0))
    assert manifests.scan() == {"a.yaml": "half no more"}
    assert not manifests.unsettled


def test_half_of_a_file_is_not_taken_though_it_is_whole_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("1")
    read = directory._read

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}

        def between(at: Path, status: os.stat_result) -> str | Unreadable:
            monkeypatch.setattr(directory, "_read", read)
            with at.open("w") as file:
                half = read(at, status)
                file.write("3")
            assert half == ""
            return half

        monkeypatch.setattr(directory, "_read", between)
        path.write_text("2")
        assert await following() == {"a.yaml": "3"}

    watching(tmp_path, steps)


def test_a_file_that_stays_empty_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_EMPTY_NS", 30_000_000)
    (tmp_path / "a.yaml").write_text("1")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        (tmp_path / "a.yaml").write_text("")
        assert await following() == {"a.yaml": ""}

    watching(tmp_path, steps)


def test_without_inotify_the_directory_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(nonblocking: bool) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(directory, "INotify", none_left)
    monkeypatch.setattr(directory, "POLL_SECONDS", 0.05)
    (tmp_path / "a.yaml").write_text("1")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        (tmp_path / "a.yaml").write_text("22")
        assert await following() == {"a.yaml": "22"}

    watching(tmp_path, steps)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_FILE_BYTES", 3)
    (tmp_path / "link.yaml").symlink_to("nowhere")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "large.yaml").write_text("1234")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "fifo.yaml")
    assert Directory(tmp_path).scan() == {
        "bytes.yaml": Unreadable("is not UTF-8: invalid start byte at byte 0"),
        "fifo.yaml": Unreadable("is no regular file"),
        "large.yaml": Unreadable("larger than 3 bytes"),
        "link.yaml": Unreadable("is a link to nothing"),
        "loop.yaml": Unreadable("cannot be read: Too many levels of symbolic links"),
    }


def test_directory_that_vanishes_is_no_reason_to_forget(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.yaml").write_text("1")

    async def steps(following: Next) -> None:
        assert await following() == {"a.yaml": "1"}
        root.rename(tmp_path / "away")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(following(), 0.3)

    watching(root, steps)
