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
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

from inotify_simple import INotify, flags

from meshd import log
from meshd.kube.collection import Unreadable

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_FILES = 20_000
QUIET_SECONDS = 0.05
"""Changes are read once nothing has changed for so long: an editor's or ``cp``'s several steps are one."""
MAX_DELAY_SECONDS = 0.5
"""...but not later than this, however busy the directory is."""
RESCAN_SECONDS = 10.0
"""inotify does not see changes behind links or on network file systems: look so often anyway."""
POLL_SECONDS = 1.0
"""Look so often where there is no inotify to be had (fs.inotify.max_user_instances)."""
_SETTLING_NS = 30_000_000
"""A file changed so recently may be half written."""
_WATCHED = (
    flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip

Files = Mapping[str, str | Unreadable]
"""The text of each manifest, by its path relative to the directory."""
_logger = logging.getLogger("meshd.control.directory")
_Stamp = tuple[int, int, int, int]


class Directory:
    """The manifests in one directory and those below it. Names beginning with a dot are left out."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, str | Unreadable] = {}
        self._stamps: dict[str, _Stamp] = {}
        self.unsettled = False
        """A file was being written during the last scan: its old content was taken; scan again."""

    def scan(self) -> Files:
        """Read what is new or changed since the last scan. Blocking.

        Raises OSError if the directory itself cannot be read: that is no reason to forget its content.
        """
        files: dict[str, str | Unreadable] = {}
        stamps: dict[str, _Stamp] = {}
        self.unsettled = False
        for path in self._manifests():
            if len(files) >= MAX_FILES:
                files["."] = Unreadable(f"more than {MAX_FILES} manifests; the rest is not read")
                break
            name = str(path.relative_to(self._root))
            try:
                found = path.stat()
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
                if self._stamps.get(name) == stamp:
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
        self._files, self._stamps = files, stamps
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

    async def versions(self) -> AsyncGenerator[Files, None]:
        """The files now, and again each time they have changed. Raises OSError from the first scan only."""
        changed = asyncio.Event()
        with _inotify(changed) as inotify:
            rescan = POLL_SECONDS if inotify is None else RESCAN_SECONDS
            # Watch first, then read: a change in between is then seen.
            await asyncio.to_thread(self._watch, inotify)
            seen = await asyncio.to_thread(self.scan)
            yield seen
            while True:
                await _settled(changed, rescan)
                await asyncio.to_thread(self._watch, inotify)
                with contextlib.suppress(OSError):
                    files = await asyncio.to_thread(self.scan)
                    if self.unsettled:
                        changed.set()
                    if files != seen:
                        seen = files
                        yield seen

    def _watch(self, inotify: INotify | None) -> None:
        """Watch the directory and all below it. To watch again what is watched changes nothing."""
        if inotify is None:
            return
        for folder, folders, _ in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            # Out of watches, or gone meanwhile: the regular rescan still sees it.
            with contextlib.suppress(OSError):
                inotify.add_watch(folder, _WATCHED)


@contextlib.contextmanager
def _inotify(changed: asyncio.Event) -> Iterator[INotify | None]:
    """An inotify instance that sets ``changed``; None if this user has no more of them."""
    try:
        inotify = INotify(nonblocking=True)
    except OSError as error:
        log.event(
            _logger, logging.WARNING, "polling", every=POLL_SECONDS, reason=f"inotify: {error.strerror}"
        )
        yield None
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(inotify.fileno(), _drain, inotify, changed)
    try:
        yield inotify
    finally:
        loop.remove_reader(inotify.fileno())
        inotify.close()


def _drain(inotify: INotify, changed: asyncio.Event) -> None:
    """Which events there were does not matter: each leads to a scan. An overflow is an event, too."""
    inotify.read(timeout=0)
    changed.set()


async def _settled(changed: asyncio.Event, rescan: float) -> None:
    """Wait for a change and then until it is quiet, or for the time of a rescan."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(rescan):
            await changed.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(MAX_DELAY_SECONDS):
            while changed.is_set():
                changed.clear()
                await asyncio.sleep(QUIET_SECONDS)


def _read(path: Path, found: os.stat_result) -> str | Unreadable:
    if not stat.S_ISREG(found.st_mode):
        return Unreadable("is no regular file")
    if found.st_size > MAX_FILE_BYTES:
        return Unreadable(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8: {error.reason} at byte {error.start}")
