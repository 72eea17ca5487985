"""From snapshots to map operations, in the order in which they may be done under traffic. Pure.

A service's slots are written under a new generation before any of its VIPs shows that generation, and the
old generation's slots go after that. The kernel, which may have read the service just before, reads it
again when it misses the slot (bpf/balance.h).
"""

from __future__ import annotations

from collections.abc import Set
from itertools import chain
from typing import NamedTuple

from meshd.datapath.services.installed import Handling, Installed, Installing, ServiceEntry, Slots
from meshd.datapath.services.slots import SlotTable, Target, slot_table
from meshd.model.clusters import EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Snapshot

_GENERATIONS = 2**32
_NO_RULES: SharedMap[str, int] = SharedMap()
_NOBODY: frozenset[str] = frozenset()


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


class Plan(NamedTuple):
    """Operations, in order, and what the maps hold after them."""

    operations: list[Operation]
    result: Installed


def plan(installed: Installed, old: Snapshot, new: Snapshot, rules: SharedMap[str, int] = _NO_RULES) -> Plan:
    """What leads from ``installed`` to ``new``. Where that is of ``old``, only what differs is looked at.

    ``rules``: those that services are to show, by the listener's name, where there are any.

    A service keeps its id while its listener or one of its VIPs stays. Where two listeners claim one VIP and
    port, the first by name has it. Raises CaptureError for what the maps cannot express.
    """
    known = installed.snapshot is old
    if not known:
        installed, old = installed.unknown(), Snapshot()
    result = Installing(installed)
    affected = set(old.listeners.others(new.listeners))
    vips = set() if known else set(installed.services)
    for name in affected:
        before, after = old.listeners.get(name), new.listeners.get(name)
        vips |= result.claim(name, after)
        result.use(name, before.cluster if before else "", after.cluster if after else "")
    for vip in vips:
        affected.update(result.claims.get(vip, ())[:1])
    for cluster in chain(old.clusters.others(new.clusters), old.endpoints.others(new.endpoints)):
        affected |= result.users.get(cluster, _NOBODY)
    affected.update(installed.rules.others(rules))
    freed = _renumber(result, affected, new, known)
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
        gone = result.slots[number]
        del result.slots[number]
        obsolete.append(RemoveSlots(number, gone.generation, len(gone.targets)))
    return Plan([*slots, *services, *obsolete], result.done(new, rules))


def _renumber(result: Installing, affected: Set[str], new: Snapshot, known: bool) -> Set[int]:
    """Give ids to those that have none. Returns the ids that are not in use any more.

    ``known``: all that may have gone is among the affected.
    """
    gone = [name for name in (affected if known else result.ids) if name in result.ids]
    freed = {result.ids.pop(name, 0) for name in gone if name not in new.listeners}
    if not known:
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
