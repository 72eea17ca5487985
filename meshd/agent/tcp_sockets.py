"""The TCP connections that a process has open, as /proc shows them."""

from __future__ import annotations

import os
import socket
import sys
from itertools import islice
from pathlib import Path
from typing import NamedTuple

MAX_FDS = 8192
MAX_CONNECTIONS = 65536
_ESTABLISHED = "01"


class TcpSocket(NamedTuple):
    """The ends of one connection: addresses in text form (IPv6 may be v4-mapped) and ports."""

    local: tuple[str, int]
    remote: tuple[str, int]


def tcp_sockets(process: int, proc: Path = Path("/proc")) -> list[TcpSocket]:
    """The established connections of a process; none when it is gone. Bounded, so maybe not all."""
    inodes = _socket_inodes(proc / str(process) / "fd")
    if not inodes:
        return []
    found = []
    for table in ("tcp", "tcp6"):
        try:
            with (proc / str(process) / "net" / table).open() as lines:
                for line in islice(lines, 1, MAX_CONNECTIONS):
                    fields = line.split()
                    if fields[9] in inodes and fields[3] == _ESTABLISHED:
                        found.append(TcpSocket(_end(fields[1]), _end(fields[2])))
        except OSError:
            continue
    return found


def _socket_inodes(folder: Path) -> frozenset[str]:
    found = set()
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, MAX_FDS):
                try:
                    link = str(Path(entry.path).readlink())
                except OSError:
                    continue  # closed meanwhile
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    except OSError:
        return frozenset()
    return frozenset(found)


def _end(text: str) -> tuple[str, int]:
    """``0100007F:3A98``: the words of an address as the machine's integers, and a port."""
    words, _, port = text.partition(":")
    address = b"".join(
        int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8)
    )
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address), int(port, 16)
