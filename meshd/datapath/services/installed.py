"""What the maps of services and endpoints hold, from version to version. Pure."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from meshd.datapath.services.slots import Target, target
from meshd.model.listeners import FailurePolicy, Listener
from meshd.model.shared_map import Draft, SharedMap
from meshd.model.snapshot import Snapshot

_NOBODY: frozenset[str] = frozenset()
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Handling(enum.Enum):
    """What the kernel does with a service's connections: enum protocol of bpf/types/service.h, by name."""

    HTTP = "http"
    TCP = "tcp"
    TCP_RELAYED = "tcp-relayed"


class ServiceEntry(NamedTuple):
    """One value of the ``services`` map."""

    id: int
    generation: int
    first_slot: int
    slots: int
    handling: Handling
    failure_policy: FailurePolicy
    rules: int = 0
    """Fingerprint of the rules by which the kernel carries its requests; 0: it carries none."""
    joined: bool = False
    """The ends of its connections are joined where both are on this node."""


class Slots(NamedTuple):
    """What a service's slots hold in its present generation."""

    generation: int
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Installed:
    """What the maps hold, and of what snapshot that is."""

    services: SharedMap[Target, ServiceEntry] = field(default_factory=SharedMap)
    slots: SharedMap[int, Slots] = field(default_factory=SharedMap)
    ids: SharedMap[str, int] = field(default_factory=SharedMap)
    """By listener: known only for what this process put there."""
    next_id: int = 1
    """Ids are not used again: the kernel may still be at work with a removed service's entry."""
    snapshot: Snapshot | None = None
    """None: it is not known, all of the next one is to be looked at."""
    rules: SharedMap[str, int] = field(default_factory=SharedMap)
    """That services show, by the listener's name, where it is not 0."""
    vips: SharedMap[str, tuple[Target, ...]] = field(default_factory=SharedMap)
    """That each listener claims."""
    claims: SharedMap[Target, tuple[str, ...]] = field(default_factory=SharedMap)
    """The listeners that claim a VIP: the first one has it."""
    users: SharedMap[str, frozenset[str]] = field(default_factory=SharedMap)
    """The listeners whose own cluster it is."""

    def unknown(self) -> Installed:
        """The same, without what follows from the snapshot: by which one it is there is not known."""
        return Installed(self.services, self.slots, self.ids, self.next_id)


class Installing:
    """The next ``Installed``, in the making."""

    def __init__(self, before: Installed) -> None:
        self.services = Draft(before.services)
        self.slots = Draft(before.slots)
        self.ids = Draft(before.ids)
        self.next_id = before.next_id
        self.vips = Draft(before.vips)
        self.claims = Draft(before.claims)
        self.users = Draft(before.users)

    def done(self, snapshot: Snapshot, rules: SharedMap[str, int]) -> Installed:
        """It is of this snapshot, and services show these rules."""
        return Installed(
            self.services.done(),
            self.slots.done(),
            self.ids.done(),
            self.next_id,
            snapshot,
            rules,
            self.vips.done(),
            self.claims.done(),
            self.users.done(),
        )

    def claim(self, name: str, listener: Listener | None) -> set[Target]:
        """Take a listener in the place of the one of its name; None: it is gone. Those whose claims are to be
        looked at. Raises CaptureError.
        """
        before = self.vips.pop(name, ())
        for vip in before:
            _put(self.claims, vip, tuple(each for each in self.claims[vip] if each != name))
        after: tuple[Target, ...] = ()
        if listener is not None:
            of = f"listener {name}"
            after = tuple(dict.fromkeys(target(address, listener.port, of) for address in listener.addresses))
            self.vips[name] = after
            for vip in after:
                self.claims[vip] = tuple(sorted((*self.claims.get(vip, ()), name)))
        return {*before, *after}

    def use(self, name: str, before: str, after: str) -> None:
        """A listener's own cluster is another; empty: none."""
        if before != after:
            if before:
                _put(self.users, before, self.users.get(before, _NOBODY) - {name})
            if after:
                self.users[after] = self.users.get(after, _NOBODY) | {name}


def _put(index: Draft[_K, _V], key: _K, value: _V) -> None:
    """Nothing is not kept."""
    if value:
        index[key] = value
    else:
        index.pop(key, None)
