"""The compiled unit that is kept: it is what the compiler made, and nothing else is taken for it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from meshd.datapath.datapath import Datapath
from meshd.datapath.kernel import bpf
from meshd.datapath.loading import source
from meshd.datapath.loading.kept_unit import (
    MAX_KEPT,
    Kept,
    keep,
    kept_unit,
    place,
    running_kernel,
    with_places,
)
from meshd.datapath.loading.programs import PROGRAMS
from meshd.paths import CACHE_DIR


def test_a_kept_unit_makes_the_same_programs_and_maps(datapath: Datapath) -> None:
    digest = datapath.layout.digest
    unit = kept_unit(CACHE_DIR, digest)
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
    digest = datapath.layout.digest
    assert kept_unit(CACHE_DIR, source.digest("other")) is None
    assert kept_unit(tmp_path, digest) is None
    kept = _kept(digest)
    assert kept.kernel == running_kernel()
    keep(tmp_path, msgspec.structs.replace(kept, kernel="6.1.0 of yesterday"))
    assert kept_unit(tmp_path, digest) is None
    place(tmp_path, digest).write_bytes(place(CACHE_DIR, digest).read_bytes()[:1000])
    assert kept_unit(tmp_path, digest) is None
    place(tmp_path, "other").write_bytes(place(CACHE_DIR, digest).read_bytes())
    assert kept_unit(tmp_path, "other") is None


def test_the_units_that_were_used_last_are_kept(datapath: Datapath, tmp_path: Path) -> None:
    kept = _kept(datapath.layout.digest)
    for number in range(MAX_KEPT + 2):
        layout = msgspec.structs.replace(kept.layout, digest=f"{number:012x}")
        keep(tmp_path, msgspec.structs.replace(kept, layout=layout))
        if number > 1:
            assert kept_unit(tmp_path, f"{1:012x}") is not None
    digests = [f"{number:012x}" for number in (1, *range(3, MAX_KEPT + 2))]
    assert sorted(tmp_path.iterdir()) == [place(tmp_path, digest) for digest in digests]


def _kept(digest: str) -> Kept:
    return msgspec.msgpack.decode(place(CACHE_DIR, digest).read_bytes(), type=Kept)


def test_only_loads_of_map_addresses_get_places() -> None:
    load_map = bytes((0x18, 0x11, 0, 0)) + (7).to_bytes(4, "little") + bytes(8)
    load_number = bytes((0x18, 0x01, 0, 0)) + (7).to_bytes(4, "little") + bytes(8)
    exit_ = bytes((0x95, 0, 0, 0, 0, 0, 0, 0))
    placed = with_places(load_map + load_number + exit_, {7: 3}.__getitem__)
    assert placed == load_map.replace(b"\x07", b"\x03", 1) + load_number + exit_
