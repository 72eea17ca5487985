"""Addresses as the maps hold them: of 16 bytes, IPv4 as ::ffff:a.b.c.d."""

from __future__ import annotations

import functools
import socket

from meshd.datapath.services.slots import V4_MAPPED

End = tuple[str, int]
"""An address as text, IPv4 not as v4-mapped, and a port."""


@functools.lru_cache(maxsize=1024)
def packed_address(address: str) -> bytes:
    """An address as the maps hold it. Raises OSError for a text that is none."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return V4_MAPPED + socket.inet_pton(socket.AF_INET, address)


@functools.lru_cache(maxsize=8192)
def address_text(packed: bytes) -> str:
    """An address that the maps hold, in canonical text form; IPv4 never as v4-mapped."""
    if packed.startswith(V4_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(V4_MAPPED) :])
    return socket.inet_ntop(socket.AF_INET6, packed)
