"""From snapshots to map operations, in the order in which they may be done under traffic. Pure.

A service's slots are written under a new generation before any of its VIPs shows that generation, and the
old generation's slots go after that. The kernel, which may have read the service just before, reads it
again when it misses the slot (bpf/balance.h).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshd.datapath.services.slots import SlotTable, Target, slot_table, target
from meshd.model.clusters import EndpointSet
from meshd.model.listeners import FailurePolicy, Listener, Protocol
from meshd.model.snapshot import Snapshot

_GENERATIONS = 2**32
_NO_RULES: Mapping[str, int] = {}


class Handling(enum.Enum):
    """What the kernel does with a service's connections: enum protocol of bpf/types.h, by name."""

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
    """What the maps hold. ``ids`` is known only for what this process put there."""

    services: dict[Target, ServiceEntry] = field(default_factory=dict)
    slots: dict[int, Slots] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    next_id: int = 1
    """Ids are not used again: the kernel may still be at work with a removed service's entry."""
    listeners: Mapping[str, Listener] | None = None
    vips: dict[str, tuple[Target, ...]] = field(default_factory=dict)
    """Those of each of ``listeners``; of the very same ones they are not sought again."""

    def copy(self) -> Installed:
        """One that can be changed without changing this."""
        return Installed(
            dict(self.services), dict(self.slots), dict(self.ids), self.next_id, self.listeners, self.vips
        )


class Plan(NamedTuple):
    """Operations, in order, and what the maps hold after them."""

    operations: list[Operation]
    result: Installed


def plan(installed: Installed, old: Snapshot, new: Snapshot, rules: Mapping[str, int] = _NO_RULES) -> Plan:
    """What leads from ``installed`` to ``new``. Services alike in both snapshots are taken as installed.

    ``rules``: those that services are to show, by the listener's name.

    A service keeps its id while its listener or one of its VIPs stays. Where two listeners claim one VIP and
    port, the first by name has it. Raises CaptureError for what the maps cannot express.
    """
    result = installed.copy()
    if installed.listeners is new.listeners:  # which is so where only endpoints change
        vips, ids = installed.vips, installed.ids
    else:
        vips = _vips(new)
        ids = _ids(installed, vips, result)
        result.listeners, result.vips = new.listeners, vips
    slots: list[Operation] = []
    services: list[Operation] = []
    obsolete: list[Operation] = []
    for name, own in vips.items():
        number = ids[name]
        if (
            installed.ids.get(name) == number
            and _alike(name, old, new)
            and all(_shows(installed.services.get(vip), number, rules.get(name, 0)) for vip in own)
        ):
            continue
        listener = new.listeners[name]
        table = _slot_table(listener, new)
        targets = table.ipv4 + table.ipv6
        before = installed.slots.get(number)
        generation = before.generation if before else 1
        if before and before.targets != targets:
            generation = (before.generation + 1) % _GENERATIONS
            obsolete.append(RemoveSlots(number, before.generation, len(before.targets)))
        if before is None or before.targets != targets:
            slots.append(PutSlots(number, generation, targets))
        result.slots[number] = Slots(generation, targets)
        for vip in own:
            entry = _entry(listener, number, generation, table, vip, rules.get(name, 0))
            if installed.services.get(vip) != entry:
                services.append(PutService(vip, entry))
                result.services[vip] = entry
    wanted = {vip for own in vips.values() for vip in own}
    for vip in installed.services.keys() - wanted:
        services.append(RemoveService(vip))
        del result.services[vip]
    for number in installed.slots.keys() - set(ids.values()):
        gone = result.slots.pop(number)
        obsolete.append(RemoveSlots(number, gone.generation, len(gone.targets)))
    result.ids = dict(ids)
    return Plan([*slots, *services, *obsolete], result)


def _vips(snapshot: Snapshot) -> dict[str, tuple[Target, ...]]:
    owner: dict[Target, str] = {}
    vips: dict[str, tuple[Target, ...]] = {}
    for name in sorted(snapshot.listeners):
        listener = snapshot.listeners[name]
        claimed = [target(address, listener.port, f"listener {name}") for address in listener.addresses]
        vips[name] = tuple(vip for vip in claimed if owner.setdefault(vip, name) == name)
    return vips


def _ids(installed: Installed, vips: dict[str, tuple[Target, ...]], result: Installed) -> dict[str, int]:
    ids = {name: installed.ids[name] for name in vips if name in installed.ids}
    taken = set(ids.values())
    for name, own in vips.items():
        if name in ids:
            continue
        # What an earlier agent put there has no name, only its VIPs.
        found = (installed.services[vip].id for vip in own if vip in installed.services)
        number = next((number for number in found if number not in taken), result.next_id)
        result.next_id = max(result.next_id, number + 1)
        taken.add(number)
        ids[name] = number
    return ids


def _alike(name: str, old: Snapshot, new: Snapshot) -> bool:
    before, after = old.listeners.get(name), new.listeners[name]
    if before is None or before != after:
        return False
    return old.endpoints.get(after.cluster) == new.endpoints.get(after.cluster) and _panic_percent(
        after, old
    ) == _panic_percent(after, new)


def _slot_table(listener: Listener, snapshot: Snapshot) -> SlotTable:
    endpoints = snapshot.endpoints.get(listener.cluster, EndpointSet(name=listener.cluster))
    return slot_table(endpoints, _panic_percent(listener, snapshot))


def _panic_percent(listener: Listener, snapshot: Snapshot) -> int:
    cluster = snapshot.clusters.get(listener.cluster)
    return cluster.panic_percent if cluster is not None else 0


def _shows(entry: ServiceEntry | None, number: int, rules: int) -> bool:
    return entry is not None and (entry.id, entry.rules) == (number, rules)


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
    return Handling.TCP_RELAYED if listener.is_relayed else Handling.TCP
