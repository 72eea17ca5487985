"""The workloads that the kernel serves, and their addresses: the maps ``members`` and ``homes``."""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection

from meshd.datapath.addresses import packed_address
from meshd.datapath.errors import CaptureError
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout

_COOKIE = struct.Struct("=Q")


class MemberMaps:
    """Writes both. They are the caller's to close."""

    def __init__(self, members: Map, homes: Map, layout: Layout) -> None:
        """Raises OSError, KeyError (a layout of other programs)."""
        self._members = members
        self._homes = homes
        self._member = layout.codec("member", "port4", "port6", "flags").pack
        self._flags = layout.enums["member_flag"]
        self._addresses: dict[int, set[bytes]] = {}
        """By the cookie of who is there."""
        for address, cookie in homes.items():
            self._addresses.setdefault(_COOKIE.unpack(cookie)[0], set()).add(address)

    def put(
        self,
        cookie: int,
        port: int,
        ipv6: bool,
        fast_path: bool,
        joins: bool | None,
        addresses: Collection[str],
    ) -> None:
        """As Datapath.set_member."""
        flags = self._flags["MEMBER_FAST_PATH"] if fast_path else 0
        if joins is not None:
            flags |= self._flags["MEMBER_JOINS" if joins else "MEMBER_JOINS_NOT"]
        try:
            self._members[_COOKIE.pack(cookie)] = self._member(port, port if ipv6 else 0, flags)
            self._move(cookie, {packed_address(each) for each in addresses})
        except OSError as error:
            if error.errno == errno.E2BIG:
                raise CaptureError(
                    f"no room for another workload: the members map holds {self._members.max_entries}; "
                    "raise MESHD_MAX_MEMBERS in bpf/consts.h"
                ) from error
            raise CaptureError(f"network namespace {cookie} cannot be made a member: {error}") from error

    def remove(self, cookie: int) -> None:
        """As Datapath.remove_member."""
        try:
            self._move(cookie, set())
            self._members.discard(_COOKIE.pack(cookie))
        except OSError as error:
            raise CaptureError(f"network namespace {cookie} cannot be removed: {error}") from error

    def cookies(self) -> frozenset[int]:
        """Of all members, those of an earlier agent too. Raises OSError."""
        return frozenset(_COOKIE.unpack(key)[0] for key in self._members)

    def _move(self, cookie: int, addresses: set[bytes]) -> None:
        packed = _COOKIE.pack(cookie)
        for address in self._addresses.pop(cookie, set()) - addresses:
            if self._homes.get(address) == packed:  # it may be another pod's by now
                self._homes.discard(address)
        for address in addresses:
            self._homes[address] = packed
        if addresses:
            self._addresses[cookie] = addresses
