"""The compiled unit, kept: whoever loads it again on this kernel needs neither bcc nor the compiler.

Compiling takes longer than all else at an agent's start. What is kept is what the kernel is given: the
programs' instructions with places for maps, the maps' shapes, and their BTF.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from meshd import kept_file
from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.loading.layout import Layout
from meshd.datapath.loading.map_names import INNER_MAPS
from meshd.datapath.loading.programs import Program

_INSTRUCTION = struct.Struct("=BBhi")
_LOAD_64 = 0x18  # BPF_LD | BPF_IMM | BPF_DW
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, as the source register


class KeptMap(msgspec.Struct, frozen=True):
    """A map as BPF_MAP_CREATE is asked for it."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf_key_type: int
    btf_value_type: int


def kept_map(name: str, fd: int) -> KeptMap:
    """What a map is like. Raises OSError."""
    info = bpf.map_info(fd)
    return KeptMap(
        name,
        *(info.type, info.key_size, info.value_size, info.max_entries, info.flags),
        *(info.btf_key_type, info.btf_value_type),
    )


class Kept(msgspec.Struct, frozen=True):
    """One unit. ``kernel``: what it was compiled for."""

    kernel: str
    layout: Layout
    btf: bytes
    maps: tuple[KeptMap, ...]
    programs: dict[str, bytes]
    """Instructions; a load of a map's address has the map's place in ``maps`` instead of an fd."""


_decoder = msgspec.msgpack.Decoder(Kept)


def with_places(instructions: bytes, place_of: Callable[[int], int]) -> bytes:
    """Instructions with another number for each map: ``place_of`` the one that they have."""
    found = bytearray(instructions)
    for at in range(0, len(found), _INSTRUCTION.size):
        code, registers, offset, immediate = _INSTRUCTION.unpack_from(found, at)
        if code == _LOAD_64 and registers >> 4 == _MAP_FD:
            _INSTRUCTION.pack_into(found, at, code, registers, offset, place_of(immediate))
    return bytes(found)


class KeptUnit:
    """A kept unit, with maps made when they are first asked for. The same face as ``compile.Compiled``."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._fds: dict[str, int] = {}
        self._btf = -1
        self.layout = kept.layout
        self.digest = kept.layout.digest

    def map_fd(self, name: str) -> int:
        """The fd of a map; owned by the unit. Raises KeyError, OSError."""
        if name not in self._fds:
            shape = next((each for each in self._kept.maps if each.name == name), None)
            if shape is None:
                raise KeyError(name)
            if self._btf < 0:
                self._btf = bpf.load_btf(self._kept.btf)
            inner = self.map_fd(INNER_MAPS[name]) if name in INNER_MAPS else 0
            self._fds[name] = bpf.create_map(*msgspec.structs.astuple(shape), btf=self._btf, inner=inner)
        return self._fds[name]

    def use_map(self, name: str, fd: int) -> None:
        """Let programs loaded from now on use another map than the one that would be made for ``name``."""
        self._fds[name] = os.dup(fd)

    def load(self, program: Program) -> int:
        """Load one program; its fd, owned by the unit. Raises DatapathError."""
        names = [each.name for each in self._kept.maps]
        instructions = with_places(self._kept.programs[program.name], lambda place: self.map_fd(names[place]))
        try:
            return bpf.load_program(program.name, program.type, program.attach_type, instructions)
        except OSError as error:
            raise DatapathError(
                f"the kernel refuses program {program.name} (it needs kernel {program.kernel}): {error}"
            ) from error


def running_kernel() -> str:
    """What a unit is compiled for: its programs read structs of this kernel."""
    system = os.uname()
    return f"{system.release} {system.version} {system.machine}"


MAX_KEPT = 4
"""Units, those that were used last: agents of two versions on a node, and what is rolled back to."""


def place(folder: Path, digest: str) -> Path:
    """Where the unit of these sources is kept."""
    return folder / f"compiled-{digest}.msgpack"


def kept_unit(folder: Path, digest: str) -> KeptUnit | None:
    """The unit that is kept there, if it is of these sources and this kernel. Raises OSError."""
    path = place(folder, digest)
    try:
        kept = _decoder.decode(path.read_bytes())
        if (kept.kernel, kept.layout.digest) != (running_kernel(), digest):
            return None
        os.utime(path)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return KeptUnit(kept)


def keep(folder: Path, kept: Kept) -> None:
    """Keep one, and of the others those that were used last. That it cannot be is said, and no harm."""
    try:
        kept_file.replace(place(folder, kept.layout.digest), msgspec.msgpack.encode(kept))
        units = sorted(folder.glob("compiled*.msgpack"), key=lambda path: path.stat().st_mtime_ns)
        for old in units[:-MAX_KEPT]:
            old.unlink()
    except OSError as error:
        print(f"the compiled programs are not kept: {error}", file=sys.stderr)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time for the same folder: of two that start together one compiles. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "compiled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
