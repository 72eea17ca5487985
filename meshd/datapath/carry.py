"""An upgrade whose maps have another layout: what the old maps hold is carried into the new ones."""

from __future__ import annotations

import contextlib
import os
import struct

from meshd.datapath.bpf_map import Map
from meshd.datapath.layout import Layout
from meshd.datapath.pins import Pins

# Not: origins (on sockets, out of our reach), sockets (its values are sockets), heartbeat (beats go on).
CARRIED = ("members", "services", "endpoints", "flows", "settings", "stats")


def carry_over(old: Layout, new: Layout, pins: Pins) -> None:
    """Fill each map whose layout changed from its predecessor, field by field, by name.

    A field that is new is 0; one that is gone is dropped. Raises OSError.
    """
    for name in CARRIED:
        if name not in old.maps or old.map_digest(name) == new.map_digest(name):
            continue
        with contextlib.ExitStack() as maps:
            try:
                source = Map.pinned(pins.map(old, name))
            except FileNotFoundError:
                continue
            maps.callback(os.close, source.fd)
            target = Map.pinned(pins.map(new, name))
            maps.callback(os.close, target.fd)
            key = Conversion(old, old.maps[name].key, new, new.maps[name].key)
            value = Conversion(old, old.maps[name].value, new, new.maps[name].value)
            for old_key, old_value in source.items():
                target[key.convert(old_key)] = value.convert(old_value)


class Conversion:
    """From one layout of a struct to another. Without struct names the bytes are taken as they are."""

    def __init__(self, old: Layout, old_name: str, new: Layout, new_name: str) -> None:
        self._identical = not (old_name and new_name)
        if self._identical:
            return
        before, after = old.structs[old_name], new.structs[new_name]
        self._unpack, self._pack = before.codec(), after.codec()
        places = {field.name: index for index, field in enumerate(before.fields)}
        self._places = [places.get(field.name) for field in after.fields]
        self._zeros = struct.Struct("=" + "".join(field.format for field in after.fields))
        self._strides = (before.size + 7) // 8 * 8, (after.size + 7) // 8 * 8

    def convert(self, data: bytes) -> bytes:
        """One key or value; of a per-CPU map, the values of all CPUs."""
        if self._identical:
            return data
        if len(data) == self._unpack.size:
            return self._one(data)
        stride, padded = self._strides
        return b"".join(
            self._one(data[at : at + self._unpack.size]).ljust(padded, b"\0")
            for at in range(0, len(data), stride)
        )

    def _one(self, data: bytes) -> bytes:
        fields = self._unpack.unpack(data)
        zeros = self._zeros.unpack(bytes(self._zeros.size))
        both = zip(zeros, self._places, strict=True)
        return self._pack.pack(*(zero if place is None else fields[place] for zero, place in both))
