"""Manifests from a directory: read at once, and again whenever something changes.

Works with files edited in place, replaced by rename, and with mounted ConfigMaps, whose files are links
through a ``..data`` link that is swapped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from inotify_simple import INotify

from meshd import log
from meshd.control.source import SourceError
from meshd.control.touched import WATCHED, Touched
from meshd.gateway.incremental import Change
from meshd.kube.collection import Content, Edits, Unreadable

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_FILES = 20_000
QUIET_SECONDS = 0.05
"""Changes are read once nothing has changed for so long: an editor's several steps are one."""
SURE_SECONDS = 0.005
"""The same where each file that has changed is whole."""
MAX_DELAY_SECONDS = 0.5
"""...but not later than this, however busy the directory is."""
RESCAN_SECONDS = 10.0
"""inotify does not see changes behind links or on network file systems: look so often anyway."""
POLL_SECONDS = 1.0
"""Look so often where there is no inotify to be had (fs.inotify.max_user_instances)."""
_SETTLING_NS = 30_000_000
"""A file changed so recently may be half written."""
_EMPTY_NS = 1_000_000_000
"""An empty one, too: it is emptied before the event that it is being written is there."""
_logger = logging.getLogger("meshd.control.directory")
_Stamp = tuple[int, int, int, int]


class _Looked(NamedTuple):
    """What a look at files has found that is not as it was."""

    edits: dict[str, Content | None]
    stamps: dict[str, _Stamp | None]
    emptied: set[str]
    """Files that are empty since a moment ago."""


class Directory:
    """The manifests in one directory and those below it. Names beginning with a dot are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, Content] = {}
        """By path relative to the directory."""
        self._stamps: dict[str, _Stamp] = {}
        self._folders: dict[int, str] = {}
        """What inotify watches, by its number: relative, with a slash at its end."""
        self.unsettled = False
        """A file was being written during the last scan: its old content was taken; scan again."""

    def scan(self) -> Edits:
        """Look at all files, and read what is new or changed since the last look. Blocking.

        Raises OSError if the directory itself cannot be read: that is no reason to forget its content.
        """
        return self._take(self._look_at_all())

    def look_at(self, names: frozenset[str]) -> Edits:
        """Read these; all others are as they were. Blocking. Raises OSError as ``scan``."""
        return self._take(self._look_at(names))

    def _look_at_all(self) -> _Looked:
        self.unsettled = False
        found = _Looked({}, {}, set())
        there: set[str] = set()
        for name, at in self._manifests():
            if len(there) >= MAX_FILES:
                there.add(".")
                self._note(".", Unreadable(f"more than {MAX_FILES} manifests; the rest is not read"), found)
                break
            if self._look(name, at, found):
                there.add(name)
        for name in self._files.keys() - there:
            self._note(name, None, found)
        return found

    def _look_at(self, names: frozenset[str]) -> _Looked:
        if len(self._files) + len(names) > MAX_FILES:
            return self._look_at_all()
        found = _Looked({}, {}, set())
        for name in names:
            if not self._look(name, self._root / name, found, whole=True):
                self._note(name, None, found)
        return found

    def _look(self, name: str, at: os.DirEntry[str] | Path, found: _Looked, *, whole: bool = False) -> bool:
        """Note what a file holds, if it is there; whether it is. ``whole``: it has changed, and nobody is
        writing it.
        """
        last = self._stamps.get(name)
        try:
            status = at.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)
            if last == stamp and not whole:
                return True
            if last and not whole and _is_fresh(status, _SETTLING_NS):
                self.unsettled = True
                return True
            content = _read(Path(at), status)
            if content == "" and _is_fresh(Path(at).stat(), _EMPTY_NS):
                found.emptied.add(name)
                return True
            self._note(name, content, found)
            found.stamps[name] = stamp
        except FileNotFoundError:
            if not at.is_symlink():
                return False
            self._note(name, Unreadable("is a link to nothing"), found)
        except OSError as error:
            self._note(name, Unreadable(f"cannot be read: {error.strerror}"), found)
        return True

    def _note(self, name: str, content: Content | None, found: _Looked) -> None:
        found.stamps[name] = None
        if self._files.get(name) != content:
            found.edits[name] = content

    def _take(self, found: _Looked, unread: Iterable[str] = ()) -> Edits:
        """``unread``: to stay as they were until they are read again."""
        for name in unread:
            found.edits.pop(name, None)
            found.stamps[name] = None
        for name, content in found.edits.items():
            if content is None:
                del self._files[name]
            else:
                self._files[name] = content
        for name, stamp in found.stamps.items():
            if stamp is None:
                self._stamps.pop(name, None)
            else:
                self._stamps[name] = stamp
        return found.edits

    def _manifests(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    found = sorted(entries, key=lambda each: each.name)
            except OSError:
                if not folder:
                    raise
                continue
            for each in found:
                name = each.name
                if name.startswith("."):
                    continue
                if _is_folder(each):
                    if not each.is_symlink():
                        folders.append(f"{folder}{name}/")
                elif name[name.rfind(".") :] in SUFFIXES:
                    yield folder + name, each

    def taken(self, change: Change) -> None:
        """Manifests have no status."""

    async def versions(self) -> AsyncGenerator[Edits, None]:
        """The files now, and then those that have changed. Raises SourceError, by the first scan."""
        changed, touched = asyncio.Event(), Touched(SUFFIXES)

        def take_events() -> None:
            if inotify is not None:
                for event in inotify.read(timeout=0):
                    touched.note(self._folders.get(event.wd, ""), event.name, event.mask)
                    changed.set()

        with _inotify(take_events) as inotify:
            rescan = POLL_SECONDS if inotify is None else RESCAN_SECONDS
            # Watch first, then read: a change in between is then seen.
            await asyncio.to_thread(self._watch, inotify)
            try:
                edits = await asyncio.to_thread(self.scan)
            except OSError as error:
                raise SourceError(f"manifests directory {self._root}: {error.strerror}") from None
            yield edits
            while True:
                await _settled(changed, touched, rescan)
                names = touched.take()
                with contextlib.suppress(OSError):
                    if names is None:
                        await asyncio.to_thread(self._watch, inotify)
                        found = await asyncio.to_thread(self._look_at_all)
                    else:
                        found = await asyncio.to_thread(self._look_at, names)
                    take_events()
                    if self.unsettled:
                        touched.look_at_everything()
                    touched.look_again(found.emptied)
                    if edits := self._take(found, touched.unread):
                        yield edits

    def _watch(self, inotify: INotify | None) -> None:
        """Watch the directory and all below it. To watch again what is watched changes nothing."""
        if inotify is None:
            return
        for folder, folders, _ in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            # Out of watches, or gone meanwhile: the regular rescan still sees it.
            with contextlib.suppress(OSError):
                self._folders[inotify.add_watch(folder, WATCHED)] = _relative(folder, self._root)


@contextlib.contextmanager
def _inotify(take_events: Callable[[], None]) -> Iterator[INotify | None]:
    """An inotify instance, whose events are taken when there are any; None if this user has no more."""
    try:
        inotify = INotify(nonblocking=True)
    except OSError as error:
        log.event(
            _logger, logging.WARNING, "polling", every=POLL_SECONDS, reason=f"inotify: {error.strerror}"
        )
        yield None
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(inotify.fileno(), take_events)
    try:
        yield inotify
    finally:
        loop.remove_reader(inotify.fileno())
        inotify.close()


async def _settled(changed: asyncio.Event, touched: Touched, rescan: float) -> None:
    """Wait for a change and then until it is quiet, or for the time of a rescan."""
    try:
        async with asyncio.timeout(rescan):
            while not touched.any:
                changed.clear()
                await changed.wait()
    except TimeoutError:
        # One that somebody keeps open is read as it is.
        touched.writing.clear()
        touched.look_at_everything()
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_DELAY_SECONDS):
            changed.set()
            while changed.is_set():
                changed.clear()
                await asyncio.sleep(SURE_SECONDS if touched.sure else QUIET_SECONDS)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """A link that leads around in circles is a file that cannot be read."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _relative(folder: str, root: Path) -> str:
    """With a slash at its end; of the root itself: nothing."""
    relative = os.path.relpath(folder, root)
    return "" if relative == "." else f"{relative}/"


def _is_fresh(status: os.stat_result, nanoseconds: int) -> bool:
    """Whether a file was changed within that time."""
    return 0 <= time.time_ns() - status.st_mtime_ns < nanoseconds


def _read(path: Path, found: os.stat_result) -> str | Unreadable:
    if not stat.S_ISREG(found.st_mode):
        return Unreadable("is no regular file")
    if found.st_size > MAX_FILE_BYTES:
        return Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8: {error.reason} at byte {error.start}")
