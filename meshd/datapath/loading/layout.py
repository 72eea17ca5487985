"""How the maps' keys and values are packed: read from the programs' BTF, kept as JSON, used by every process.

A struct is flattened: the field ``destination`` of type ``struct address_port`` in ``struct origin`` gives
``destination.address``, ``destination.port``. An array of structs gives ``upstream[0].weight`` and so on;
other arrays are opaque bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from meshd.datapath.kernel.btf import Btf
from meshd.datapath.loading.map_names import SIDE_BY_SIDE, WORKER_MAPS

_INTEGER_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One integer or byte array. ``format`` is a code of the struct module; ``enum`` names its values."""

    name: str
    offset: int
    format: str
    enum: str = ""


class StructLayout(msgspec.Struct, frozen=True):
    """A flattened struct: its size in bytes and its fields in order."""

    size: int
    fields: tuple[Field, ...]

    def codec(self, *names: str) -> Codec:
        """A codec of those fields, in the order given; the other bytes are written as zeros.

        So user space does not depend on the order of fields, nor on fields that it does not know. Raises
        KeyError for a name that is no field.
        """
        by_name = {field.name: field for field in self.fields}
        return Codec(self.size, tuple(by_name[name] for name in names))

    def place(self, prefix: str, size: int) -> slice:
        """Where a struct of that size lies in this one: the first field whose name has that prefix begins it.

        Raises KeyError where there is none.
        """
        for field in self.fields:
            if field.name.startswith(prefix):
                return slice(field.offset, field.offset + size)
        raise KeyError(prefix)


class Codec:
    """Packs and unpacks some fields of a struct."""

    pack: Callable[..., bytes]
    """Values in the order of the fields, to the whole struct. Raises struct.error."""
    unpack: Callable[[bytes], tuple[Any, ...]]
    """The whole struct to values in the order of the fields. Raises struct.error."""

    def __init__(self, size: int, fields: tuple[Field, ...]) -> None:
        by_offset = sorted(range(len(fields)), key=lambda index: fields[index].offset)
        form, at = "=", 0
        for index in by_offset:
            field = fields[index]
            form += "x" * (field.offset - at) + field.format
            at = field.offset + struct.calcsize("=" + field.format)
        packed = struct.Struct(form + "x" * (size - at))
        self.size = size
        if by_offset == list(range(len(fields))):
            self.pack, self.unpack = packed.pack, packed.unpack
            return
        place = {index: position for position, index in enumerate(by_offset)}
        places = tuple(place[index] for index in range(len(fields)))

        def pack(*values: int | bytes) -> bytes:
            return packed.pack(*(values[index] for index in by_offset))

        def unpack(data: bytes) -> tuple[Any, ...]:
            values = packed.unpack(data)
            return tuple(values[position] for position in places)

        self.pack, self.unpack = pack, unpack


class MapLayout(msgspec.Struct, frozen=True, omit_defaults=True):
    """A map as the programs declare it. ``key`` and ``value`` name a struct of the layout, or are empty."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    key: str = ""
    value: str = ""


class Layout(msgspec.Struct, frozen=True):
    """Everything user space must know about one version of the programs."""

    digest: str
    """Of the programs (source.digest)."""
    maps: dict[str, MapLayout]
    structs: dict[str, StructLayout]
    enums: dict[str, dict[str, int]]

    def to_json(self) -> str:
        """The text that ``from_json`` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Layout:
        """Raises msgspec.DecodeError."""
        return msgspec.json.decode(text, type=cls)

    def codec(self, name: str, *fields: str) -> Codec:
        """A codec of some fields of a struct. Raises KeyError."""
        return self.structs[name].codec(*fields)

    def map_digest(self, name: str) -> str:
        """Names one layout of a map, with the meaning of its bytes: 8 hexadecimal digits.

        Two versions of the programs whose digests are equal can use the same map.
        """
        shapes = [self._shape(name)]
        if name in SIDE_BY_SIDE:
            shapes += [self._shape(each) for each in WORKER_MAPS if each in self.maps]
        return hashlib.sha256(msgspec.json.encode(shapes, order="sorted")).hexdigest()[:8]

    def _shape(self, name: str) -> object:
        shape = self.maps[name]
        structs = [self.structs[n] for n in (shape.key, shape.value) if n]
        enums = [self.enums[field.enum] for each in structs for field in each.fields if field.enum]
        return shape, structs, enums


class Shapes:
    """Collects the structs, and the enums of their fields, that maps name."""

    def __init__(self, btf: Btf) -> None:
        self._btf = btf
        self.structs: dict[str, StructLayout] = {}
        self.enums: dict[str, dict[str, int]] = {}

    def add(self, type_id: int) -> str:
        """The name of the struct with this type id, "" if it is no struct. Raises BadBtfError."""
        found = self._btf.resolved(type_id)
        if not self._btf.is_struct(found):
            return ""
        fields = tuple(self._flatten(type_id, "", 0))
        self.structs[found.name] = StructLayout(self._btf.size(type_id), fields)
        return found.name

    def _flatten(self, type_id: int, name: str, offset: int) -> list[Field]:
        btf = self._btf
        found = btf.resolved(type_id)
        if btf.is_struct(found):
            prefix = name + "." if name else ""
            fields: list[Field] = []
            for member, member_type, at in btf.struct_members(found):
                fields += self._flatten(member_type, prefix + member, offset + at)
            return fields
        element = btf.array_of(found)
        if element and btf.is_struct(btf.resolved(element.type_id)):
            self.add(element.type_id)
            return [
                field
                for index in range(element.count)
                for field in self._flatten(
                    element.type_id, f"{name}[{index}]", offset + index * btf.size(element.type_id)
                )
            ]
        size = btf.size(type_id)
        if btf.is_enum(found):
            self.enums[found.name] = btf.enum_values(found)
            return [Field(name, offset, _INTEGER_FORMATS[size], found.name)]
        return [Field(name, offset, _INTEGER_FORMATS[size] if btf.is_int(found) else f"{size}s")]
