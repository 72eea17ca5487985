"""The bpf(2) system call, as far as the running datapath needs it: no library, no compiler.

Each function raises OSError with the kernel's errno. Layouts are those of union bpf_attr in linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SYSCALL = {"x86_64": 321, "aarch64": 280}
ATTRIBUTE_BYTES = 128

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_long)


class Command(enum.IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    OBJ_PIN = 6
    OBJ_GET = 7
    PROG_ATTACH = 8
    PROG_DETACH = 9
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    PROG_QUERY = 16
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_LOOKUP_BATCH = 24
    LINK_CREATE = 28
    LINK_UPDATE = 29


class AttachType(enum.IntEnum):
    """enum bpf_attach_type, the ones used or looked for here."""

    NONE = 0
    """Of programs whose kind says where they go; the kernel does not look at it."""
    CGROUP_SOCK_OPS = 3
    SK_SKB_STREAM_PARSER = 4
    SK_SKB_STREAM_VERDICT = 5
    SK_MSG_VERDICT = 7
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    SK_SKB_VERDICT = 38


def _call_number() -> int:
    machine = platform.machine()
    try:
        return _SYSCALL[machine]
    except KeyError:
        raise OSError(errno.ENOSYS, f"meshd does not know bpf(2) on {machine}") from None


_NUMBER = _call_number()


def raw(command: Command, attribute_at: int) -> int:
    """One bpf(2) call on a prepared attribute of 128 bytes; -1 and ctypes.get_errno() on failure."""
    result: int = _syscall(_NUMBER, command, attribute_at, ATTRIBUTE_BYTES)
    return result


def call_with(command: Command, attribute: ctypes.Array[ctypes.c_char]) -> int:
    """One bpf(2) call on a prepared attribute; returns its result (an fd, or 0)."""
    result = raw(command, ctypes.addressof(attribute))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (bpf {command.name})")
    return result


def call(command: Command, layout: str, *values: int) -> int:
    """One bpf(2) call with an attribute packed by ``layout``; returns its result (an fd, or 0)."""
    attribute = ctypes.create_string_buffer(ATTRIBUTE_BYTES)
    struct.pack_into("=" + layout, attribute, 0, *values)
    return call_with(command, attribute)


def pin(fd: int, path: str) -> None:
    """Give a map, program or link a name in a BPF file system."""
    text = ctypes.create_string_buffer(os.fsencode(path))
    call(Command.OBJ_PIN, "QI", ctypes.addressof(text), fd)


def open_pinned(path: str) -> int:
    """A new fd of what is pinned there."""
    text = ctypes.create_string_buffer(os.fsencode(path))
    return call(Command.OBJ_GET, "QI", ctypes.addressof(text), 0)


def load_btf(blob: bytes) -> int:
    """A new fd of a BTF object made from its bytes."""
    text = ctypes.create_string_buffer(blob, len(blob))
    return call(Command.BTF_LOAD, "QQII", ctypes.addressof(text), 0, len(blob), 0)


def create_map(
    name: str,
    kind: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int,
    btf_key_type: int,
    btf_value_type: int,
    *,
    btf: int,
    inner: int = 0,
) -> int:
    """A new map's fd. ``kind``: enum bpf_map_type. ``btf``: an fd, for maps that name types of it.

    ``inner``: of a map of maps, an fd of one as they are.
    """
    attribute = ctypes.create_string_buffer(ATTRIBUTE_BYTES)
    typed = btf if btf_value_type else 0
    sizes = (kind, key_size, value_size, max_entries, flags, inner, 0)
    struct.pack_into(
        "=7I16sIIII", attribute, 0, *sizes, name.encode(), 0, typed, btf_key_type, btf_value_type
    )
    return call_with(Command.MAP_CREATE, attribute)


LICENSE = b"Dual BSD/GPL"
"""Of all programs: the kernel compares it to the letter."""


def load_program(name: str, kind: int, attach_type: AttachType, instructions: bytes) -> int:
    """A new program's fd. ``kind``: enum bpf_prog_type."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    text = ctypes.create_string_buffer(LICENSE)
    attribute = ctypes.create_string_buffer(ATTRIBUTE_BYTES)
    struct.pack_into(
        "=IIQQIIQII16sII",
        attribute,
        0,
        *(kind, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(text)),
        *(0, 0, 0, 0, 0, name.encode(), 0, attach_type),
    )
    return call_with(Command.PROG_LOAD, attribute)


def _info(fd: int, size: int) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    call(Command.OBJ_GET_INFO_BY_FD, "IIQ", fd, size, ctypes.addressof(buffer))
    return buffer.raw


@dataclass(frozen=True, slots=True)
class MapInfo:
    """struct bpf_map_info."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str
    btf_id: int
    btf_key_type: int
    btf_value_type: int


def map_info(fd: int) -> MapInfo:
    """What the kernel says of a map."""
    fields = struct.unpack_from("=6I16sIIQQIII", _info(fd, 88))
    name = fields[6].rstrip(b"\0").decode(errors="replace")
    kind, number, key, value, entries, flags = fields[:6]
    return MapInfo(kind, number, key, value, entries, flags, name, *fields[11:14])


def btf_blob(btf_id: int) -> bytes:
    """A loaded BTF object, whole."""
    fd = call(Command.BTF_GET_FD_BY_ID, "I", btf_id)
    try:
        (size,) = struct.unpack_from("=I", _info_btf(fd, 0, 0), 8)
        buffer = ctypes.create_string_buffer(size)
        _info_btf(fd, ctypes.addressof(buffer), size)
        return buffer.raw[:size]
    finally:
        os.close(fd)


def _info_btf(fd: int, address: int, size: int) -> bytes:
    info = ctypes.create_string_buffer(32)
    struct.pack_into("=QI", info, 0, address, size)
    call(Command.OBJ_GET_INFO_BY_FD, "IIQ", fd, 32, ctypes.addressof(info))
    return info.raw


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """The part of struct bpf_prog_info that names a program."""

    type: int
    id: int
    name: str
    gpl_compatible: bool


def program_info(fd: int) -> ProgramInfo:
    """What the kernel says of a program."""
    raw = _info(fd, 88)
    kind, number = struct.unpack_from("=II", raw)
    name = raw[64:80].rstrip(b"\0").decode(errors="replace")
    return ProgramInfo(kind, number, name, bool(raw[84] & 1))


def program_by_id(number: int) -> int:
    """A new fd of a loaded program."""
    return call(Command.PROG_GET_FD_BY_ID, "I", number)


def all_maps() -> Iterator[MapInfo]:
    """Every map in the kernel, whoever made it (CAP_SYS_ADMIN)."""
    attribute = ctypes.create_string_buffer(ATTRIBUTE_BYTES)
    while True:
        try:
            call_with(Command.MAP_GET_NEXT_ID, attribute)
        except FileNotFoundError:
            return
        (number,) = struct.unpack_from("=I", attribute, 4)
        struct.pack_into("=III", attribute, 0, number, 0, 0)
        try:
            fd = call(Command.MAP_GET_FD_BY_ID, "I", number)
        except FileNotFoundError:
            continue
        try:
            yield map_info(fd)
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class CgroupLinkInfo:
    """struct bpf_link_info of a link to a cgroup; ``cgroup`` is 0 when that cgroup is gone."""

    id: int
    program: int
    cgroup: int
    attach_type: int


def cgroup_link_info(fd: int) -> CgroupLinkInfo:
    """What the kernel says of a link to a cgroup."""
    _, number, program, _, cgroup, attach_type = struct.unpack_from("=IIIIQI", _info(fd, 32))
    return CgroupLinkInfo(number, program, cgroup, attach_type)


def linked_program(fd: int) -> int:
    """The id of a link's program, whatever it is attached to."""
    program: int = struct.unpack_from("=III", _info(fd, 32))[2]
    return program


def attach_cgroup(program: int, cgroup: int, attach_type: AttachType) -> int:
    """Attach beside what is there; the link's fd (kernel 5.7). Closing the last fd or pin detaches."""
    return call(Command.LINK_CREATE, "IIII", program, cgroup, attach_type, 0)


def attach_raw_tracepoint(program: int, name: str) -> int:
    """The link's fd, closing which detaches (kernel 4.17)."""
    text = ctypes.create_string_buffer(name.encode())
    return call(Command.RAW_TRACEPOINT_OPEN, "QI", ctypes.addressof(text), program)


def replace_in_link(link: int, program: int) -> None:
    """Swap a link's program: each event meets the old one or the new one, never both or none."""
    call(Command.LINK_UPDATE, "IIII", link, program, 0, 0)


def attach_to_map(program: int, map_fd: int, attach_type: AttachType) -> None:
    """Make a program the map's own (sockmap, sockhash), in place of one that may be there."""
    call(Command.PROG_ATTACH, "IIII", map_fd, program, attach_type, 0)


def detach_from_map(program: int, map_fd: int, attach_type: AttachType) -> None:
    """Undo ``attach_to_map``."""
    call(Command.PROG_DETACH, "IIII", map_fd, program, attach_type, 0)


def attached(target: int, attach_type: AttachType) -> tuple[int, ...]:
    """The ids of the programs attached at a cgroup (not those of its ancestors) or a map."""
    ids = (ctypes.c_uint32 * 64)()
    attribute = ctypes.create_string_buffer(ATTRIBUTE_BYTES)
    struct.pack_into("=IIIIQI", attribute, 0, target, attach_type, 0, 0, ctypes.addressof(ids), len(ids))
    call_with(Command.PROG_QUERY, attribute)
    (count,) = struct.unpack_from("=I", attribute, 24)
    return tuple(ids[:count])
