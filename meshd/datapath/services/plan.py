"""From snapshots to map operations, in the order in which they may be done under traffic. Pure.

A service's slots are written under a new generation before any of its VIPs shows that generation, and the
old generation's slots go after that. The kernel, which may have read the service just before, reads it
again when it misses the slot (bpf/balance.h).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from meshd.datapath.services.slots import SlotTable, Target, slot_table, target
from meshd.model.clusters import EndpointSet
from meshd.model.listeners import FailurePolicy, Listener, Protocol
from meshd.model.snapshot import Snapshot, others

_GENERATIONS = 2**32
_NO_RULES: Mapping[str, int] = {}
_NOBODY: frozenset[str] = frozenset()
_K = TypeVar("_K")
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


class PutSlots(NamedTuple):
    """Write a generation's slots, from 0."""

    service: int
    generation: int
    targets: tuple[Target, ...]


class PutService(NamedTuple):
    """Write or replace a VIP's entry."""

    vip: Target
    entry: ServiceEntry


class RemoveService(NamedTuple):
    """Remove a VIP's entry."""

    vip: Target


class RemoveSlots(NamedTuple):
    """Remove a generation's slots, the first ``slots`` of them."""

    service: int
    generation: int
    slots: int


Operation = PutSlots | PutService | RemoveService | RemoveSlots


class Slots(NamedTuple):
    """What a service's slots hold in its present generation."""

    generation: int
    targets: tuple[Target, ...]


@dataclass(slots=True)
class Installed:
    """What the maps hold, and of what snapshot that is."""

    services: dict[Target, ServiceEntry] = field(default_factory=dict)
    slots: dict[int, Slots] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    """By listener: known only for what this process put there."""
    next_id: int = 1
    """Ids are not used again: the kernel may still be at work with a removed service's entry."""
    snapshot: Snapshot | None = None
    """None: it is not known, all of the next one is to be looked at."""
    rules: Mapping[str, int] = field(default_factory=dict)
    """That services show, by the listener's name, where it is not 0."""
    vips: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    """That each listener claims."""
    claims: dict[Target, tuple[str, ...]] = field(default_factory=dict)
    """The listeners that claim a VIP: the first one has it."""
    users: dict[str, frozenset[str]] = field(default_factory=dict)
    """The listeners whose own cluster it is."""

    def for_change(self, listeners: bool) -> Installed:
        """One that can be changed without changing this; ``listeners``: in what follows from them, too."""
        if not listeners:
            return dataclasses.replace(self, services=dict(self.services), slots=dict(self.slots))
        return Installed(
            dict(self.services),
            dict(self.slots),
            dict(self.ids),
            self.next_id,
            self.snapshot,
            self.rules,
            dict(self.vips),
            dict(self.claims),
            dict(self.users),
        )

    def unknown(self) -> Installed:
        """A copy that knows what is there, but not by which snapshot."""
        return Installed(dict(self.services), dict(self.slots), dict(self.ids), self.next_id)

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
            _put(self.users, before, self.users.get(before, _NOBODY) - {name})
            if after:
                self.users[after] = self.users.get(after, _NOBODY) | {name}


class Plan(NamedTuple):
    """Operations, in order, and what the maps hold after them."""

    operations: list[Operation]
    result: Installed


def plan(installed: Installed, old: Snapshot, new: Snapshot, rules: Mapping[str, int] = _NO_RULES) -> Plan:
    """What leads from ``installed`` to ``new``. Where that is of ``old``, only what differs is looked at.

    ``rules``: those that services are to show, by the listener's name.

    A service keeps its id while its listener or one of its VIPs stays. Where two listeners claim one VIP and
    port, the first by name has it. Raises CaptureError for what the maps cannot express.
    """
    if installed.snapshot is old:
        result = installed.for_change(old.listeners is not new.listeners)
    else:
        result, old = installed.unknown(), Snapshot()
    affected = set(others(old.listeners, new.listeners))
    vips: set[Target] = set() if installed.snapshot is old else set(installed.services)
    for name in affected:
        before, after = old.listeners.get(name), new.listeners.get(name)
        vips |= result.claim(name, after)
        result.use(name, before.cluster if before else "", after.cluster if after else "")
    for vip in vips:
        affected.update(result.claims.get(vip, ())[:1])
    for part, other in ((old.clusters, new.clusters), (old.endpoints, new.endpoints)):
        for cluster in others(part, other):
            affected |= result.users.get(cluster, _NOBODY)
    affected.update(
        name for name in {*result.rules, *rules} if result.rules.get(name, 0) != rules.get(name, 0)
    )
    freed = _renumber(result, affected, new)
    slots: list[Operation] = []
    services: list[Operation] = []
    obsolete: list[Operation] = []
    for name in sorted(name for name in affected if name in new.listeners):
        listener, number = new.listeners[name], result.ids[name]
        table = _slot_table(listener, new)
        targets = table.ipv4 + table.ipv6
        shown = result.slots.get(number)
        generation = shown.generation if shown else 1
        if shown and shown.targets != targets:
            generation = (shown.generation + 1) % _GENERATIONS
            obsolete.append(RemoveSlots(number, shown.generation, len(shown.targets)))
        if shown is None or shown.targets != targets:
            slots.append(PutSlots(number, generation, targets))
        result.slots[number] = Slots(generation, targets)
        for vip in (each for each in result.vips[name] if result.claims[each][0] == name):
            entry = _entry(listener, number, generation, table, vip, rules.get(name, 0))
            if result.services.get(vip) != entry:
                services.append(PutService(vip, entry))
                result.services[vip] = entry
    for vip in sorted(vip for vip in vips if vip in result.services and vip not in result.claims):
        services.append(RemoveService(vip))
        del result.services[vip]
    for number in sorted(number for number in freed if number in result.slots):
        gone = result.slots.pop(number)
        obsolete.append(RemoveSlots(number, gone.generation, len(gone.targets)))
    result.snapshot, result.rules = new, {name: number for name, number in rules.items() if number}
    return Plan([*slots, *services, *obsolete], result)


def _renumber(result: Installed, affected: Set[str], new: Snapshot) -> Set[int]:
    """Give ids to those that have none. Returns the ids that are not in use any more."""
    known = affected if result.snapshot is not None else tuple(result.ids)
    gone = [name for name in known if name in result.ids and name not in new.listeners]
    freed = {result.ids.pop(name) for name in gone}
    if result.snapshot is None:
        freed = {*result.slots, *(entry.id for entry in result.services.values())} - set(result.ids.values())
    for name in sorted(name for name in affected if name in new.listeners and name not in result.ids):
        own = (vip for vip in result.vips[name] if result.claims[vip][0] == name)
        # What an earlier agent put there has no name, only its VIPs.
        found = (result.services[vip].id for vip in own if vip in result.services)
        number = next((number for number in found if number in freed), result.next_id)
        result.next_id = max(result.next_id, number + 1)
        freed.discard(number)
        result.ids[name] = number
    return freed


def _put(index: dict[_K, _V], key: _K, value: _V) -> None:
    if value:
        index[key] = value
    else:
        index.pop(key, None)


def _slot_table(listener: Listener, snapshot: Snapshot) -> SlotTable:
    endpoints = snapshot.endpoints.get(listener.cluster, EndpointSet(name=listener.cluster))
    return slot_table(endpoints, _panic_percent(listener, snapshot))


def _panic_percent(listener: Listener, snapshot: Snapshot) -> int:
    cluster = snapshot.clusters.get(listener.cluster)
    return cluster.panic_percent if cluster is not None else 0


def _entry(
    listener: Listener, number: int, generation: int, table: SlotTable, vip: Target, rules: int
) -> ServiceEntry:
    first, count = (0, len(table.ipv4)) if vip.ipv4 else (len(table.ipv4), len(table.ipv6))
    return ServiceEntry(
        number,
        generation,
        first,
        count,
        _handling(listener),
        listener.failure_policy,
        rules,
        listener.tcp_fast_path,
    )


def _handling(listener: Listener) -> Handling:
    if listener.protocol is Protocol.HTTP:
        return Handling.HTTP
    # Of one that is only known the proxy asks for the rest.
    return Handling.TCP_RELAYED if listener.is_relayed or listener.cold else Handling.TCP
