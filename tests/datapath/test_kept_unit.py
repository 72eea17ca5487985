"""The compiled unit that is kept: it is what the compiler made, and nothing else is taken for it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from meshd.datapath.datapath import Datapath
from meshd.datapath.kernel import bpf
from meshd.datapath.loading import source
from meshd.datapath.loading.kept_unit import Kept, keep, kept_unit, running_kernel, with_places
from meshd.datapath.loading.load import KEPT
from meshd.datapath.loading.programs import PROGRAMS


def test_a_kept_unit_makes_the_same_programs_and_maps(datapath: Datapath) -> None:
    digest = datapath.layout.digest
    unit = kept_unit(KEPT, digest)
    assert unit is not None
    assert unit.layout == datapath.layout
    for name in ("flows", "origins", "clients", "stats"):
        made, pinned = bpf.map_info(unit.map_fd(name)), bpf.map_info(datapath.open_map(name).fd)
        assert (made.type, made.key_size, made.value_size, made.max_entries, made.flags) == (
            pinned.type,
            pinned.key_size,
            pinned.value_size,
            pinned.max_entries,
            pinned.flags,
        )
        assert bool(made.btf_id) == bool(pinned.btf_id)
    for program in PROGRAMS:
        fd = unit.load(program)
        assert bpf.program_info(fd).name == program.name
        os.close(fd)


def test_a_unit_of_other_sources_or_another_kernel_is_not_taken(datapath: Datapath, tmp_path: Path) -> None:
    assert kept_unit(KEPT, source.digest("other")) is None
    assert kept_unit(tmp_path / "nothing", datapath.layout.digest) is None
    kept = msgspec.msgpack.decode(KEPT.read_bytes(), type=Kept)
    assert kept.kernel == running_kernel()
    path = tmp_path / "compiled.msgpack"
    keep(path, msgspec.structs.replace(kept, kernel="6.1.0 of yesterday"))
    assert kept_unit(path, datapath.layout.digest) is None
    path.write_bytes(KEPT.read_bytes()[:1000])
    assert kept_unit(path, datapath.layout.digest) is None


def test_only_loads_of_map_addresses_get_places() -> None:
    load_map = bytes((0x18, 0x11, 0, 0)) + (7).to_bytes(4, "little") + bytes(8)
    load_number = bytes((0x18, 0x01, 0, 0)) + (7).to_bytes(4, "little") + bytes(8)
    exit_ = bytes((0x95, 0, 0, 0, 0, 0, 0, 0))
    placed = with_places(load_map + load_number + exit_, {7: 3}.__getitem__)
    assert placed == load_map.replace(b"\x07", b"\x03", 1) + load_number + exit_
