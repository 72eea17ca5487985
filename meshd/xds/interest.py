"""Which listeners a client needs with all that they refer to, and which it only wants to know of. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable

from meshd.model.listeners import Listener
from meshd.model.snapshot import Snapshot


class Want(enum.Enum):
    """What a client wants of a listener."""

    KNOWN = "known"
    """That it is there."""
    KEPT = "kept"
    """What it refers to, too, to have it when it is used: in force it is as KNOWN."""
    USED = "used"
    """All, in force."""


class Interest:
    """A client's. Unless it is in everything, listeners begin as KNOWN."""

    def __init__(self, everything: bool = True) -> None:
        self.everything = everything
        self._wants: dict[str, Want] = {}
        """Those that are more than KNOWN."""
        self._namespaces: frozenset[str] = frozenset()

    def want(self, names: Iterable[str], want: Want) -> frozenset[str]:
        """Of listeners that need not be there yet. Those for which it is news."""
        news = frozenset(name for name in names if self._of(name) is not want)
        for name in news:
            if want is Want.KNOWN:
                del self._wants[name]
            else:
                self._wants[name] = want
        return frozenset() if self.everything else news

    def follow(self, namespaces: Collection[str]) -> bool:
        """There are callers of these namespaces, and of no others. Whether it is news."""
        before, self._namespaces = self._namespaces, frozenset(namespaces)
        return not self.everything and before != self._namespaces

    @property
    def names(self) -> Collection[str]:
        """Of the listeners that are to be more than known of."""
        return self._wants.keys()

    def held(self, listener: Listener) -> Listener:
        """The listener with the names of all that is to be held for it."""
        if self.everything:
            return listener
        if self._of(listener.name) is Want.KNOWN:
            return listener.as_cold()
        return listener.for_callers(self._namespaces)

    def in_force(self, held: Snapshot) -> Snapshot:
        """Of what is held, that which may be in force."""
        kept = [each for name, each in held.listeners.items() if self._of(name) is Want.KEPT]
        if self.everything or not kept:
            return held
        listeners = {**held.listeners, **{each.name: each.as_cold() for each in kept}}
        return Snapshot(held.generation, listeners, held.route_configs, held.clusters, held.endpoints)

    def _of(self, name: str) -> Want:
        return self._wants.get(name, Want.KNOWN)
