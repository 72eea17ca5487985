"""A BPF map as a dictionary of bytes."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from errno import ENOENT
from pathlib import Path

from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf import Command

_POSSIBLE_CPUS = Path("/sys/devices/system/cpu/possible")
# BPF_MAP_TYPE_PERCPU_HASH, _PERCPU_ARRAY, _LRU_PERCPU_HASH: a lookup gives a value for each possible CPU.
_PER_CPU_TYPES = frozenset((5, 6, 10))
_EXIST = 2  # BPF_EXIST


def possible_cpus() -> int:
    """How many values a per-CPU map holds for each key. Raises OSError."""
    last_range = _POSSIBLE_CPUS.read_text().strip().rsplit(",", 1)[-1]
    return int(last_range.rsplit("-", 1)[-1]) + 1


class Map:
    """Owns the fd. Keys and values are bytes of exactly the map's sizes. Not safe for use by two threads."""

    def __init__(self, fd: int) -> None:
        """Takes the fd over. Raises OSError."""
        self.fd = fd
        info = bpf.map_info(fd)
        self.name = info.name
        self.max_entries = info.max_entries
        self.key_size = info.key_size
        if info.type in _PER_CPU_TYPES:
            self.value_size = (info.value_size + 7) // 8 * 8 * possible_cpus()
        else:
            self.value_size = info.value_size
        self._key = ctypes.create_string_buffer(self.key_size)
        self._value = ctypes.create_string_buffer(max(self.value_size, self.key_size))
        # union bpf_attr: map_fd, key, value or next_key, flags. What a command does not use must be 0.
        key_at, value_at = ctypes.addressof(self._key), ctypes.addressof(self._value)
        self._with_value, self._existing, self._without_value, self._next = (
            ctypes.create_string_buffer(struct.pack("=IIQQQ", fd, 0, *rest), bpf.ATTRIBUTE_BYTES)
            for rest in ((key_at, value_at, 0), (key_at, value_at, _EXIST), (key_at, 0, 0), (0, value_at, 0))
        )
        self._with_value_at = ctypes.addressof(self._with_value)
        self._existing_at = ctypes.addressof(self._existing)
        self._without_value_at = ctypes.addressof(self._without_value)

    @classmethod
    def pinned(cls, path: Path) -> Map:
        """The map pinned there. Raises OSError."""
        return cls(bpf.open_pinned(str(path)))

    def close(self) -> None:
        """Close the fd; the map lives on where it is pinned."""
        os.close(self.fd)

    def get(self, key: bytes) -> bytes | None:
        """The value, or None where there is no such key. Raises OSError."""
        self._key.raw = key
        if bpf.raw(Command.MAP_LOOKUP_ELEM, self._with_value_at) == 0:
            return self._value.raw[: self.value_size]
        self._raise_unless_missing()
        return None

    def take(self, key: bytes) -> bytes | None:
        """The value, which is removed in the same step; None where there is no such key. Raises OSError.

        Kernel 5.14, hash maps.
        """
        self._key.raw = key
        if bpf.raw(Command.MAP_LOOKUP_AND_DELETE_ELEM, self._with_value_at) == 0:
            return self._value.raw[: self.value_size]
        self._raise_unless_missing()
        return None

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Set, whether it was there or not. Raises OSError (E2BIG: the map is full)."""
        if len(value) != self.value_size:
            raise ValueError(f"BPF map {self.name} has values of {self.value_size} bytes, not {len(value)}")
        self._key.raw = key
        ctypes.memmove(self._value, value, self.value_size)
        if bpf.raw(Command.MAP_UPDATE_ELEM, self._with_value_at) < 0:
            self._raise()

    def replace(self, key: bytes, value: bytes) -> bool:
        """Set what is there; False where there is no such key. Raises OSError."""
        self._key.raw = key
        ctypes.memmove(self._value, value, self.value_size)
        if bpf.raw(Command.MAP_UPDATE_ELEM, self._existing_at) == 0:
            return True
        self._raise_unless_missing()
        return False

    def discard(self, key: bytes) -> bool:
        """Delete; False where there is no such key. Raises OSError."""
        self._key.raw = key
        if bpf.raw(Command.MAP_DELETE_ELEM, self._without_value_at) == 0:
            return True
        self._raise_unless_missing()
        return False

    def __iter__(self) -> Iterator[bytes]:
        """The keys. What the kernel adds or removes meanwhile may be missed or seen; it ends in any case."""
        seen = 0
        attribute = ctypes.create_string_buffer(self._next.raw, bpf.ATTRIBUTE_BYTES)
        previous = ctypes.create_string_buffer(self.key_size)
        # A key that was removed meanwhile makes the kernel begin anew: hence the bound.
        while seen <= 2 * self.max_entries:
            if bpf.raw(Command.MAP_GET_NEXT_KEY, ctypes.addressof(attribute)) < 0:
                self._raise_unless_missing()
                return
            found = self._value.raw[: self.key_size]
            previous.raw = found
            struct.pack_into("=Q", attribute, 8, ctypes.addressof(previous))
            seen += 1
            yield found

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys with their values, as iteration finds them."""
        for key in list(self):
            value = self.get(key)
            if value is not None:
                yield key, value

    def _raise_unless_missing(self) -> None:
        if ctypes.get_errno() != ENOENT:
            self._raise()

    def _raise(self) -> None:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (BPF map {self.name})")
