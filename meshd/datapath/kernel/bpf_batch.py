"""Reads a hash map by many entries a system call: for maps with tens of thousands of them."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from errno import ENOENT, ENOSPC

from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf import Command
from meshd.datapath.kernel.bpf_map import Map

_FIRST_BATCH = 256
_LARGEST_BATCH = 1 << 16
# union bpf_attr's batch: in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags.
_ATTRIBUTE = struct.Struct("=QQQQIIQQ")
_COUNT_AT = 32


def entries(source: Map) -> Iterator[tuple[bytes, bytes]]:
    """All keys and values, once each but for those that come or go meanwhile. Kernel 5.6. Raises OSError."""
    size = min(_FIRST_BATCH, source.max_entries)
    key_size, value_size = source.key_size, source.value_size
    position = ctypes.create_string_buffer(max(8, key_size))
    started = False
    while True:
        keys = ctypes.create_string_buffer(size * key_size)
        values = ctypes.create_string_buffer(size * value_size)
        following = ctypes.create_string_buffer(len(position))
        attribute = ctypes.create_string_buffer(bpf.ATTRIBUTE_BYTES)
        _ATTRIBUTE.pack_into(
            attribute,
            0,
            ctypes.addressof(position) if started else 0,
            ctypes.addressof(following),
            ctypes.addressof(keys),
            ctypes.addressof(values),
            size,
            source.fd,
            0,
            0,
        )
        result = bpf.raw(Command.MAP_LOOKUP_BATCH, ctypes.addressof(attribute))
        error = ctypes.get_errno() if result < 0 else 0
        if error == ENOSPC and size < _LARGEST_BATCH:
            size *= 2  # one bucket of the hash holds more than that: again from the same position
            continue
        if error not in (0, ENOENT):
            raise OSError(error, f"{os.strerror(error)} (BPF map {source.name})")
        (count,) = struct.unpack_from("=I", attribute, _COUNT_AT)
        key_bytes, value_bytes = keys.raw, values.raw
        for index in range(count):
            yield (
                key_bytes[index * key_size : (index + 1) * key_size],
                value_bytes[index * value_size : (index + 1) * value_size],
            )
        if error == ENOENT:
            return
        position, started = following, True
