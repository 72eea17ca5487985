"""An upgrade whose maps have another layout: what the old maps hold is carried into the new ones."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Collection, Iterator

from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout, StructLayout
from meshd.datapath.loading.map_names import CARRIED_MAPS
from meshd.datapath.loading.pins import Pins

# Not: origins (on sockets, out of our reach), clients and the like (their values are sockets), joined_ends
# (which say what these do), spliced and what goes with it (likewise: their workers hold on to the old ones),
# heartbeat (beats go on), kept (a request that is not found there is not sent again), rule_sets, paths (the
# agent writes them anew; until then a service's rules are not found, and its requests are upcalls).
LIVE, EARLIER = struct.pack("=I", 0), struct.pack("=I", 1)
"""Keys of the stats map: see bpf/maps.h."""
_FOR_THE_FAST_PATH = ("armed", "services", "rule_sets", "spliced_armed", "joined_ends")


def carry_over(old: Layout, new: Layout, pins: Pins, names: Collection[str] = CARRIED_MAPS) -> None:
    """Fill each map whose layout changed from its predecessor, field by field, by name.

    A field that is new is 0; one that is gone is dropped. Raises OSError.
    """
    for name in names:
        if not _changed(old, new, pins, name):
            continue
        with _both(old, new, pins, name) as (source, target):
            key = Conversion(old, old.maps[name].key, new, new.maps[name].key)
            value = Conversion(old, old.maps[name].value, new, new.maps[name].value)
            for old_key, old_value in source.items():
                target[key.convert(old_key)] = value.convert(old_value)


def carry_counters(old: Layout, new: Layout, pins: Pins) -> None:
    """Carry the counters, once the old programs no longer count. Raises OSError.

    They go into an entry of their own, which the programs do not write: they count on in theirs.
    """
    if not _changed(old, new, pins, "stats"):
        return
    with _both(old, new, pins, "stats") as (source, target):
        names = [field.name for field in old.structs["stats"].fields]
        names = [name for name in names if name in {field.name for field in new.structs["stats"].fields}]
        counts = sum_counters(source, old.structs["stats"], names)
        packed = new.codec("stats", *names).pack(*counts)
        target[EARLIER] = packed.ljust(target.value_size, b"\0")


def retire(old: Layout, new: Layout, pins: Pins) -> None:
    """Leave nothing in maps that are replaced by which a byte could be carried. Raises OSError.

    Sockets keep the programs that they were enrolled with, and those their maps: what they would find there
    is no longer kept up to date.
    """
    for name in _FOR_THE_FAST_PATH:
        if _changed(old, new, pins, name):
            with contextlib.closing(Map.pinned(pins.map(old, name))) as left:
                for key in list(left):
                    left.discard(key)


def sum_counters(stats: Map, shape: StructLayout, names: list[str]) -> list[int]:
    """The counters of those names, over all CPUs and with what was carried. Raises OSError."""
    codec = shape.codec(*names)
    stride = (shape.size + 7) // 8 * 8
    totals = [0] * len(names)
    for key in (LIVE, EARLIER):
        value = stats.get(key) or b""
        for at in range(0, len(value), stride):
            totals = [a + b for a, b in zip(totals, codec.unpack(value[at : at + shape.size]), strict=True)]
    return totals


def _changed(old: Layout, new: Layout, pins: Pins, name: str) -> bool:
    """Whether there is an earlier map to carry from, and one of another layout to carry to."""
    if name not in old.maps or name not in new.maps or old.map_digest(name) == new.map_digest(name):
        return False
    return pins.map(old, name).exists()


@contextlib.contextmanager
def _both(old: Layout, new: Layout, pins: Pins, name: str) -> Iterator[tuple[Map, Map]]:
    source = Map.pinned(pins.map(old, name))
    try:
        target = Map.pinned(pins.map(new, name))
        try:
            yield source, target
        finally:
            target.close()
    finally:
        source.close()


class Conversion:
    """From one layout of a struct to another. Without struct names the bytes are taken as they are."""

    def __init__(self, old: Layout, old_name: str, new: Layout, new_name: str) -> None:
        self._identical = not (old_name and new_name)
        if self._identical:
            return
        before, after = old.structs[old_name], new.structs[new_name]
        known = {field.name for field in before.fields}
        common = [field.name for field in after.fields if field.name in known]
        self._unpack, self._pack = before.codec(*common), after.codec(*common)

    def convert(self, data: bytes) -> bytes:
        """One key or value."""
        return data if self._identical else self._pack.pack(*self._unpack.unpack(data))
