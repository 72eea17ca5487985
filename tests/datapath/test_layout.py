"""One definition: what user space reads from BTF is what a C compiler makes of bpf/types/."""

from __future__ import annotations

import subprocess

import pytest

from meshd.datapath.datapath import Datapath
from meshd.datapath.loading import source
from meshd.datapath.loading.carry import Conversion
from meshd.datapath.loading.layout import Field, Layout, MapLayout, StructLayout
from meshd.datapath.loading.map_names import MAPS

SIZES = {"B": 1, "H": 2, "I": 4, "Q": 8}


def test_sizes_offsets_and_enums_are_the_compilers(datapath: Datapath) -> None:
    layout = datapath.layout
    claims = []
    for name, shape in layout.structs.items():
        claims.append(f"sizeof(struct {name}) == {shape.size}")
        for field in shape.fields:
            size = SIZES.get(field.format) or int(field.format[:-1])
            claims.append(f"__builtin_offsetof(struct {name}, {field.name}) == {field.offset}")
            claims.append(f"sizeof(((struct {name} *)0)->{field.name}) == {size}")
    for values in layout.enums.values():
        claims += [f"{name} == {value}" for name, value in values.items()]
    headers = sorted((source.FOLDER / "types").iterdir())
    program = "".join(f'#include "types/{header.name}"\n' for header in headers)
    program += "".join(f'_Static_assert({claim}, "{claim}");\n' for claim in claims)
    command = ["gcc", "-x", "c", "-fsyntax-only", "-nostdinc", "-include", "linux/types.h"]
    command += ["-I", str(source.SHIM / "include"), "-I", str(source.FOLDER), "-"]
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(claims) > 80


def test_the_layout_is_complete(datapath: Datapath) -> None:
    layout = datapath.layout
    assert set(layout.maps) == set(MAPS)
    named = {name for shape in layout.maps.values() for name in (shape.key, shape.value) if name}
    within = {"head_scan", "head_field", "path_element", "response_head", "request_head"}
    assert named <= set(layout.structs)
    assert set(layout.structs) - named <= {
        *within,
        *("candidate", "cluster_share", "field_condition", "flow_upstream"),
    }
    for shape in layout.maps.values():
        if shape.key:
            assert layout.structs[shape.key].size == shape.key_size
        if shape.value:
            assert layout.structs[shape.value].size == shape.value_size
    assert layout.enums["protocol"] == {
        "PROTOCOL_HTTP": 1,
        "PROTOCOL_TCP": 2,
        "PROTOCOL_TCP_RELAYED": 3,
    }


# What the kernel puts before a key: a list's head and struct htab_elem. It gives objects of powers of two.
BEFORE_A_KEY, LINE = 8 + 48, 64


def test_clients_and_servers_programs_write_lines_of_their_own(datapath: Datapath) -> None:
    layout = datapath.layout

    def lines(name: str, *starts: str) -> set[int]:
        """The cache lines of a record that the fields are in whose names begin so."""
        key = BEFORE_A_KEY + layout.structs[f"{name}_key"].size
        fields = [f for f in layout.structs[name].fields if f.name.startswith(starts)]
        assert len(fields) >= len(starts)
        return {(key + field.offset) // LINE for field in fields}

    looked_up = {0, 1}
    by_client = lines("flow", "connection.", "began", "requests", "request_left", "upcalls", "head.")
    by_server = lines("flow", "responses", "begun", "redirected")
    assert len(by_server) == 1
    assert not looked_up & by_client | looked_up & by_server | by_client & by_server
    for_both = lines("connection", "place", "response", "received", "redirected", "carried", "last_used")
    assert len(for_both) == 1
    assert not looked_up & for_both | for_both & lines("connection", "head.")
    for name, size in (("flow", 1024), ("connection", 512)):
        shape = layout.maps[f"{name}s"]
        assert BEFORE_A_KEY + shape.key_size + shape.value_size <= size


def test_json_keeps_everything(datapath: Datapath) -> None:
    assert Layout.from_json(datapath.layout_json) == datapath.layout


SHAPE = StructLayout(16, (Field("a", 0, "B"), Field("b", 4, "I"), Field("c", 8, "3s")))


def test_codecs_leave_padding_zero() -> None:
    codec = SHAPE.codec("a", "b", "c")
    assert codec.pack(1, 2, b"xyz") == b"\1\0\0\0\2\0\0\0xyz\0\0\0\0\0"
    assert codec.unpack(b"\1\0\0\0\2\0\0\0xyz\0\0\0\0\0") == (1, 2, b"xyz")


def test_codecs_go_by_name() -> None:
    codec = SHAPE.codec("c", "a")
    assert codec.pack(b"xyz", 1) == b"\1\0\0\0\0\0\0\0xyz\0\0\0\0\0"
    assert codec.unpack(b"\1\0\0\0\2\0\0\0xyz\0\0\0\0\0") == (b"xyz", 1)
    with pytest.raises(KeyError, match="d"):
        SHAPE.codec("d")


def _layout(shape: StructLayout, enums: dict[str, dict[str, int]] | None = None) -> Layout:
    return Layout("d", {"m": MapLayout(1, 4, shape.size, 10, 0, value="s")}, {"s": shape}, enums or {})


@pytest.mark.parametrize(
    "other",
    [
        _layout(StructLayout(8, (Field("a", 0, "I"), Field("c", 4, "I")))),
        _layout(StructLayout(8, (Field("b", 0, "I"), Field("a", 4, "I")))),
        _layout(StructLayout(12, (Field("a", 0, "I"), Field("b", 4, "I")))),
    ],
)
def test_a_map_of_another_layout_has_another_digest(other: Layout) -> None:
    one = _layout(StructLayout(8, (Field("a", 0, "I"), Field("b", 4, "I"))))
    assert one.map_digest("m") != other.map_digest("m")


def test_an_enums_values_are_part_of_a_maps_digest() -> None:
    shape = StructLayout(4, (Field("a", 0, "I", "kind"),))
    one, other = _layout(shape, {"kind": {"X": 1}}), _layout(shape, {"kind": {"X": 2}})
    assert one.map_digest("m") != other.map_digest("m")


def test_conversion_goes_by_field_name() -> None:
    old = _layout(StructLayout(16, (Field("a", 0, "I"), Field("gone", 4, "I"), Field("b", 8, "Q"))))
    new = _layout(StructLayout(20, (Field("b", 0, "Q"), Field("fresh", 8, "4s"), Field("a", 12, "I"))))
    value = old.codec("s", "a", "gone", "b").pack(1, 2, 3)
    assert new.codec("s", "b", "fresh", "a").unpack(Conversion(old, "s", new, "s").convert(value)) == (
        3,
        bytes(4),
        1,
    )
