"""Compiles the programs with bcc. The only module that imports bcc; it runs in the short-lived loader alone.

Importing bcc costs 70 MB resident and compiling 50 MB more, which no daemon should carry.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import NamedTuple

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.btf import BadBtfError, Btf, member_offsets
from meshd.datapath.loading import source
from meshd.datapath.loading.kept_unit import Kept, kept_map, running_kernel, with_places
from meshd.datapath.loading.layout import Layout, MapLayout, Shapes
from meshd.datapath.loading.map_names import MAPS
from meshd.datapath.loading.programs import PROGRAMS, Program

# The shim tree stands in for the running kernel's headers; bcc reads this when it compiles.
os.environ["BCC_KERNEL_SOURCE"] = str(source.SHIM)
import bcc


class Unit:
    """A unit, compiled, with its maps made."""

    def __init__(self, text: str) -> None:
        """Raises DatapathError; the compiler writes its reasons to standard error."""
        try:
            flags = [*source.FLAGS, *kernel_flags()]
            self._bpf = bcc.BPF(text=text.encode("ascii"), cflags=flags, allow_rlimit=False)
        except Exception as error:  # bcc raises nothing more exact
            raise DatapathError(
                f"the BPF programs do not compile, or their maps cannot be made: {error}"
            ) from error

    def map_fd(self, name: str) -> int:
        """The fd of a map; owned by the compiled unit. Raises KeyError."""
        fd: int = bcc.lib.bpf_table_fd(self._bpf.module, name.encode())
        if fd < 0:
            raise KeyError(name)
        return fd

    def use_map(self, name: str, fd: int) -> None:
        """Let programs loaded from now on use another map than the one that was made for ``name``."""
        os.dup2(fd, self.map_fd(name), inheritable=False)

    def load(self, program: Program) -> int:
        """Load one program; its fd, owned by the compiled unit. Raises DatapathError."""
        try:
            function = self._bpf.load_func(
                program.name.encode(), program.type, attach_type=int(program.attach_type)
            )
        except Exception as error:  # bcc raises nothing more exact
            raise DatapathError(
                f"the kernel refuses program {program.name} (it needs kernel {program.kernel}): {error}"
            ) from error
        fd: int = function.fd
        return fd

    def instructions(self, name: str) -> bytes:
        """A program as the kernel is given it, with fds for maps."""
        start = bcc.lib.bpf_function_start(self._bpf.module, name.encode())
        size = bcc.lib.bpf_function_size(self._bpf.module, name.encode())
        return ctypes.string_at(start, size)


class Compiled(Unit):
    """The unit of the datapath, with the layout of its maps."""

    def __init__(self, text: str, digest: str) -> None:
        """Raises DatapathError."""
        super().__init__(text)
        self.digest = digest
        self.layout = self._layout()

    def to_keep(self) -> Kept:
        """What is needed to load it again. Before any map is replaced."""
        place = {self.map_fd(name): place for place, name in enumerate(MAPS)}
        return Kept(
            kernel=running_kernel(),
            layout=self.layout,
            btf=bpf.btf_blob(bpf.map_info(self.map_fd(MAPS[0])).btf_id),
            maps=tuple(kept_map(name, self.map_fd(name)) for name in MAPS),
            programs={
                program.name: with_places(self.instructions(program.name), place.__getitem__)
                for program in PROGRAMS
            },
        )

    def _layout(self) -> Layout:
        first = bpf.map_info(self.map_fd(MAPS[0]))
        if not first.btf_id:
            raise DatapathError("the kernel took the maps without their BTF: it needs kernel 5.15")
        shapes = Shapes(Btf(bpf.btf_blob(first.btf_id)))
        maps = {}
        for name in MAPS:
            info = bpf.map_info(self.map_fd(name))
            maps[name] = MapLayout(
                info.type,
                info.key_size,
                info.value_size,
                info.max_entries,
                info.flags,
                shapes.add(info.btf_key_type) if info.btf_key_type else "",
                shapes.add(info.btf_value_type) if info.btf_value_type else "",
            )
        return Layout(self.digest, maps, shapes.structs, shapes.enums)


_READ = {
    "tcp_sock": ("write_seq", "rcv_nxt", "copied_seq"),
    "sk_buff": ("cb",),
    "sock": ("sk_user_data", "sk_socket"),
    "sk_psock": ("ingress_msg", "ingress_skb"),
    "socket_alloc": ("vfs_inode",),
    "inode": ("i_ino",),
    "task_struct": ("flags",),
}


class _Calls(NamedTuple):
    """How an architecture's tasks say which system call they are in."""

    register: str
    """Where struct pt_regs has the call's number."""
    splice: int
    """The number of splice(2)."""


_CALLS = {"x86_64": _Calls("orig_ax", 275), "aarch64": _Calls("syscallno", 76)}


def kernel_flags(
    kernel: Path = Path("/sys/kernel/btf/vmlinux"), machine: str = platform.machine()
) -> list[str]:
    """Where the kernel's structs have what bpf/tcp.h, bpf/arrival.h and bpf/splice_reader.h read.

    Nothing: it does not say, or what they ask of an architecture is not known of this one.
    """
    calls = _CALLS.get(machine)
    if calls is None:
        return []
    flags = [f"-DSPLICE_CALL={calls.splice}"]
    try:
        blob = kernel.read_bytes()
        for struct, members in {**_READ, "pt_regs": (calls.register,)}.items():
            offsets = member_offsets(blob, struct, members)
            if len(offsets) < len(members):
                return []
            for name, offset in offsets.items():
                named = "call" if name == calls.register else name
                flags.append(f"-D{struct.upper()}_{named.upper()}={offset}")
    except (OSError, ValueError, BadBtfError):
        return []
    return flags


def bcc_version() -> str:
    """The version of bcc."""
    return str(bcc.__version__)
