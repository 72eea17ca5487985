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
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path

from inotify_simple import INotify

from meshd import log
from meshd.control.source import SourceError
from meshd.control.touched import WATCHED, Touched
from meshd.gateway.incremental import Change
from meshd.kube.collection import Content, Edits, Unreadable, edits

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
_logger = logging.getLogger("meshd.control.directory")
Files = Mapping[str, Content]
"""What each manifest holds, by its path relative to the directory."""
_Stamp = tuple[int, int, int, int]


class Directory:
    """The manifests in one directory and those below it. Names beginning with a dot are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, Content] = {}
        self._stamps: dict[str, _Stamp] = {}
        self._folders: dict[int, str] = {}
        """What inotify watches, by its number: relative, with a slash at its end."""
        self.unsettled = False
        """A file was being written during the last scan: its old content was taken; scan again."""

    def scan(self) -> Files:
        """Read what is new or changed since the last scan. Blocking.

        Raises OSError if the directory itself cannot be read: that is no reason to forget its content.
        """
        files: dict[str, Content] = {}
        stamps: dict[str, _Stamp] = {}
        self.unsettled = False
        for path in self._manifests():
            if len(files) >= MAX_FILES:
                files["."] = Unreadable(f"more than {MAX_FILES} manifests; the rest is not read")
                break
            self._look(path, files, stamps)
        self._files, self._stamps = files, stamps
        return files

    def look_at(self, names: frozenset[str]) -> Files:
        """Read these; all others are as they were. Blocking. Raises OSError as ``scan``."""
        if len(self._files) + len(names) > MAX_FILES:
            return self.scan()
        files, stamps = dict(self._files), dict(self._stamps)
        for name in names:
            files.pop(name, None)
            stamps.pop(name, None)
            self._look(self._root / name, files, stamps, whole=True)
        self._files, self._stamps = files, stamps
        return files

    def _look(
        self,
        path: Path,
        files: dict[str, Content],
        stamps: dict[str, _Stamp],
        *,
        whole: bool = False,
    ) -> None:
        """Put a file into the others. ``whole``: it has changed, and nobody is writing it."""
        name = str(path.relative_to(self._root))
        try:
            found = path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
            if whole:
                files[name] = _read(path, found)
            elif self._stamps.get(name) == stamp:
                files[name] = self._files[name]
            elif name in self._stamps and 0 <= time.time_ns() - found.st_mtime_ns < _SETTLING_NS:
                self.unsettled = True
                files[name], stamp = self._files[name], self._stamps[name]
            else:
                files[name] = _read(path, found)
            stamps[name] = stamp
        except FileNotFoundError:
            if path.is_symlink():
                files[name] = Unreadable("is a link to nothing")
        except OSError as error:
            files[name] = Unreadable(f"cannot be read: {error.strerror}")

    def _take_back(self, names: set[str], before: Files) -> Files:
        """Have these as they were: what has been read of them may be half of what is being written."""
        if not names:
            return self._files
        files = dict(self._files)
        for name in names:
            files.pop(name, None)
            if name in before:
                files[name] = before[name]
            self._stamps.pop(name, None)
        self._files = files
        return files

    def _manifests(self) -> Iterator[Path]:
        def failed(error: OSError) -> None:
            if error.filename == str(self._root):
                raise error

        for folder, folders, names in os.walk(self._root, onerror=failed):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix in SUFFIXES and not name.startswith("."):
                    yield path

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
                seen = await asyncio.to_thread(self.scan)
            except OSError as error:
                raise SourceError(f"manifests directory {self._root}: {error.strerror}") from None
            yield seen
            while True:
                await _settled(changed, touched, rescan)
                names = touched.take()
                with contextlib.suppress(OSError):
                    if names is None:
                        await asyncio.to_thread(self._watch, inotify)
                        files = await asyncio.to_thread(self.scan)
                    else:
                        files = await asyncio.to_thread(self.look_at, names)
                    take_events()
                    files = self._take_back(touched.writing, seen)
                    if self.unsettled:
                        touched.look_at_everything()
                    if files != seen:
                        changed_files, seen = edits(seen, files), files
                        yield changed_files

    def _watch(self, inotify: INotify | None) -> None:
        """Watch the directory and all below it. To watch again what is watched changes nothing."""
        if inotify is None:
            return
        for folder, folders, _ in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            # Out of watches, or gone meanwhile: the regular rescan still sees it.
            with contextlib.suppress(OSError):
                relative = os.path.relpath(folder, self._root)
                watch = inotify.add_watch(folder, WATCHED)
                self._folders[watch] = "" if relative == "." else f"{relative}/"


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


def _read(path: Path, found: os.stat_result) -> str | Unreadable:
    if not stat.S_ISREG(found.st_mode):
        return Unreadable("is no regular file")
    if found.st_size > MAX_FILE_BYTES:
        return Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8: {error.reason} at byte {error.start}")
