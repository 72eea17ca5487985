"""BTF, the kernel's type information, as far as map layouts need it.

The format: Documentation/bpf/btf.rst in the kernel's sources. Reading it from the loaded maps makes the C
headers in bpf/ the only definition of what the maps hold.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

_HEADER = struct.Struct("=HBBIIIII")
_TYPE = struct.Struct("=III")
_MEMBER = struct.Struct("=III")
_ARRAY = struct.Struct("=III")
_ENUM = struct.Struct("=Ii")
_MAGIC = 0xEB9F

# BTF_KIND_*
_INT, _PTR, _ARRAY_KIND, _STRUCT, _UNION, _ENUM_KIND, _FWD, _TYPEDEF = 1, 2, 3, 4, 5, 6, 7, 8
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = 9, 10, 11, 12, 13, 14, 15
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = 16, 17, 18, 19

_EXTRA_PER_MEMBER = {_STRUCT: 12, _UNION: 12, _ENUM_KIND: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_EXTRA = {_INT: 4, _ARRAY_KIND: 12, _VAR: 4, _DECL_TAG: 4}


class BadBtfError(Exception):
    """The bytes are not the BTF of our programs."""


@dataclass(frozen=True, slots=True)
class BtfType:
    """One type record. ``rest`` is what follows it in the type section, still packed."""

    kind: int
    name: str
    size_or_type: int
    members: int
    rest: bytes


@dataclass(frozen=True, slots=True)
class BtfArray:
    """What an array consists of."""

    type_id: int
    count: int


def member_offsets(blob: bytes, name: str, members: Collection[str]) -> dict[str, int]:
    """Where members of a struct are, in bytes; those that it does not have are left out.

    For a kernel's own BTF, of which ``Btf`` would make a hundred thousand objects. Raises BadBtfError.
    """
    magic, _, _, header, type_at, type_size, string_at, _ = _HEADER.unpack_from(blob)
    if magic != _MAGIC:
        raise BadBtfError(f"magic number {magic:#x}, not {_MAGIC:#x}")
    strings = header + string_at
    wanted = blob.index(b"\0" + name.encode() + b"\0", strings) + 1 - strings
    at, end = header + type_at, header + type_at + type_size
    while at < end:
        type_name, info, _ = _TYPE.unpack_from(blob, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += _TYPE.size
        extra = _EXTRA.get(kind, 0) + _EXTRA_PER_MEMBER.get(kind, 0) * count
        if kind == _STRUCT and type_name == wanted:
            found = {}
            for member, _, bits in _MEMBER.iter_unpack(blob[at : at + extra]):
                start = strings + member
                text = blob[start : blob.index(b"\0", start)].decode()
                if text in members:
                    # With kind_flag set the upper eight bits are a bit field's size.
                    found[text] = (bits & 0xFFFFFF if info >> 31 else bits) // 8
            return found
        at += extra
    return {}


class Btf:
    """The types of one BTF blob, by id (from 1)."""

    def __init__(self, blob: bytes) -> None:
        """Raises BadBtfError."""
        if len(blob) < _HEADER.size:
            raise BadBtfError("shorter than its header")
        magic, _, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(blob)
        if magic != _MAGIC:
            raise BadBtfError(f"magic number {magic:#x}, not {_MAGIC:#x}")
        self._strings = blob[header + string_at : header + string_at + string_size]
        self.types: list[BtfType] = [BtfType(0, "void", 0, 0, b"")]
        section = blob[header + type_at : header + type_at + type_size]
        at = 0
        while at < len(section):
            name, info, size_or_type = _TYPE.unpack_from(section, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            extra = _EXTRA.get(kind, 0) + _EXTRA_PER_MEMBER.get(kind, 0) * count
            at += _TYPE.size
            self.types.append(BtfType(kind, self.string(name), size_or_type, count, section[at : at + extra]))
            at += extra

    def string(self, offset: int) -> str:
        """The string at an offset of the string section."""
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def resolved(self, type_id: int) -> BtfType:
        """The type behind typedefs and qualifiers."""
        found = self.types[type_id]
        while found.kind in (_TYPEDEF, _CONST, _VOLATILE, _RESTRICT, _TYPE_TAG):
            found = self.types[found.size_or_type]
        return found

    def size(self, type_id: int) -> int:
        """In bytes; raises BadBtfError for a type that has none here."""
        found = self.resolved(type_id)
        if found.kind == _ARRAY_KIND:
            element, _, count = _ARRAY.unpack(found.rest)
            return self.size(element) * int(count)
        if found.kind in (_INT, _STRUCT, _ENUM_KIND):
            return found.size_or_type
        raise BadBtfError(f"type {found.name or type_id} (kind {found.kind}) cannot be in a map")

    def struct_members(self, found: BtfType) -> list[tuple[str, int, int]]:
        """A struct's members as (name, type id, offset in bytes). Raises BadBtfError for a bit field."""
        members = []
        for name, type_id, bits in _MEMBER.iter_unpack(found.rest):
            if bits % 8 or bits >> 24:
                raise BadBtfError(f"struct {found.name}: bit fields cannot be in a map")
            members.append((self.string(name), type_id, bits // 8))
        return members

    def enum_values(self, found: BtfType) -> dict[str, int]:
        """An enum's names and values."""
        return {self.string(name): value for name, value in _ENUM.iter_unpack(found.rest)}

    def array_of(self, found: BtfType) -> BtfArray | None:
        """The elements of an array type; None for another type."""
        if found.kind != _ARRAY_KIND:
            return None
        element, _, count = _ARRAY.unpack(found.rest)
        return BtfArray(element, count)

    def is_struct(self, found: BtfType) -> bool:
        """Whether this is a struct."""
        return found.kind == _STRUCT

    def is_enum(self, found: BtfType) -> bool:
        """Whether this is an enum of 32-bit values."""
        return found.kind == _ENUM_KIND

    def is_int(self, found: BtfType) -> bool:
        """Whether this is an integer."""
        return found.kind == _INT
