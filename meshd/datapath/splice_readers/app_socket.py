"""A socket of another process: its ends, as /proc shows them, and a descriptor of it (pidfd_getfd(2))."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from meshd.datapath.addresses import End

MAX_FDS = 65536
MAX_CONNECTIONS = 262144
_PIDFD_GETFD = 438  # on all architectures, kernel 5.6

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class AppSocket(NamedTuple):
    """One end of a TCP connection. Addresses in text form (IPv6 may be v4-mapped)."""

    process: int
    number: int
    """Of its descriptor in the process."""
    inode: int
    local: End
    remote: End

    def open(self) -> socket.socket:
        """The socket itself, by a descriptor of ours. Raises OSError: it, or its process, is gone."""
        process = os.pidfd_open(self.process)
        try:
            fd = _syscall(_PIDFD_GETFD, process, self.number, 0)
        finally:
            os.close(process)
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{os.strerror(number)} (pidfd_getfd)")
        found = socket.socket(fileno=fd)
        if os.fstat(fd).st_ino != self.inode:
            found.close()
            raise ProcessLookupError(f"process {self.process} has closed its socket")
        return found


def app_socket(process: int, inode: int, proc: Path = Path("/proc")) -> AppSocket | None:
    """The connection of a process that has that inode; None: it is gone, or among too many."""
    folder = proc / str(process)
    number = _number(folder / "fd", f"socket:[{inode}]")
    if number is None:
        return None
    wanted = str(inode)
    for table in ("tcp", "tcp6"):
        try:
            with (folder / "net" / table).open() as lines:
                for line in islice(lines, 1, MAX_CONNECTIONS):
                    fields = line.split()
                    if fields[9] == wanted:
                        return AppSocket(process, number, inode, _end(fields[1]), _end(fields[2]))
        except OSError:
            continue
    return None


def _number(folder: Path, wanted: str) -> int | None:
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, MAX_FDS):
                try:
                    if str(Path(entry.path).readlink()) == wanted:
                        return int(entry.name)
                except OSError:
                    continue  # closed meanwhile
    except OSError:
        pass
    return None


def _end(text: str) -> End:
    """``0100007F:3A98``: the words of an address as the machine's integers, and a port."""
    words, _, port = text.partition(":")
    address = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address), int(port, 16)
