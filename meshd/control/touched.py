"""Which files have changed, by inotify's events. Pure.

A file that its writer has closed, or that was renamed into place, is whole: it is read at once. One that has
gone, or is new, may be half of an editor's several steps: it is read when it is quiet. One that is being
written is not read before it is closed.
"""

from __future__ import annotations

from collections.abc import Iterable

from inotify_simple import flags

WATCHED = (
    flags.CLOSE_WRITE | flags.MODIFY | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO
    | flags.ATTRIB | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip
_OF_FOLDERS = flags.ISDIR | flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.Q_OVERFLOW
_WHOLE = flags.CLOSE_WRITE | flags.MOVED_TO


class Touched:
    """What is to be looked at, by its path relative to the directory."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        """``suffixes``: of the names of files that matter."""
        self._suffixes = suffixes
        self._whole: set[str] = set()
        self._unsure: set[str] = set()
        self._everything = False
        self.writing: set[str] = set()
        """Has been written to since it was last closed."""

    def note(self, folder: str, name: str, mask: int) -> None:
        """Take an event. ``folder``: relative, with a slash at its end; empty for the directory itself."""
        if mask & _OF_FOLDERS or name.startswith(".."):  # as Kubernetes' atomic writer has its links
            self._everything = True
            if mask & flags.Q_OVERFLOW:
                self.writing.clear()
            return
        if name.startswith(".") or name[name.rfind(".") :] not in self._suffixes:
            return
        path = folder + name
        if mask & flags.MODIFY:
            self.writing.add(path)
            return
        self.writing.discard(path)
        if mask & _WHOLE:
            self._unsure.discard(path)
            self._whole.add(path)
        else:
            self._whole.discard(path)
            self._unsure.add(path)

    def look_again(self, paths: Iterable[str]) -> None:
        """At these, when it is quiet."""
        self._unsure.update(paths)

    def look_at_everything(self) -> None:
        """Events do not tell all."""
        self._everything = True

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return self._everything or bool(self._whole or self._unsure)

    @property
    def unread(self) -> frozenset[str]:
        """Of what was read just now, that which may have been half of what is being, or has been, written."""
        return frozenset(self.writing | self._whole | self._unsure)

    @property
    def sure(self) -> bool:
        """Whether it can be looked at without waiting for more."""
        return not self._everything and not self._unsure

    def take(self) -> frozenset[str] | None:
        """What is to be looked at now; None: everything."""
        found = None if self._everything else frozenset(self._whole | self._unsure)
        self._whole.clear()
        self._unsure.clear()
        self._everything = False
        return found
