"""Runs the self-test: ``python -m meshd.datapath.selftest.run``. Prints a ``SelfTest`` as JSON.

In a network namespace of its own, which ends with the process: nothing is pinned and nothing stays.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from meshd import netns
from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf import AttachType
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading import source
from meshd.datapath.loading.load import compile_other
from meshd.datapath.loading.programs import SK_MSG, SK_SKB, TRACEPOINT_PROGRAMS, Program
from meshd.datapath.selftest.checks import CHECKS, LONG
from meshd.datapath.selftest.outcome import Check, SelfTest
from meshd.datapath.selftest.sockets import CheckFailedError, Circuit, Maps, circuit

if TYPE_CHECKING:
    from meshd.datapath.loading.compile import Unit

_QUEUED_MSG = Program("queued_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15")
_BARE_MSG = Program("bare_msg", SK_MSG, AttachType.SK_MSG_VERDICT, "5.15")
_ARRIVED = Program("arrived", SK_SKB, AttachType.SK_SKB_VERDICT, "5.15")
# linux/sockios.h, linux/if.h
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def main() -> int:
    """Exit code 0 also when a check failed: the answer says so."""
    print(msgspec.json.encode(run()).decode())
    return 0


def run() -> SelfTest:
    """All checks, in a new network namespace: this process does not come back from it."""
    try:
        unit = compile_other("selftest.c")
        for program, name in ((_QUEUED_MSG, "queued"), (_ARRIVED, "queued"), (_BARE_MSG, "bare")):
            bpf.attach_to_map(unit.load(program), unit.map_fd(name), program.attach_type)
        for program, tracepoint in TRACEPOINT_PROGRAMS:
            bpf.attach_raw_tracepoint(unit.load(program), tracepoint)
        netns.leave()
        _loopback_up()
        return SelfTest(
            checks=_tried(_maps(unit, "queued"), {**CHECKS, **LONG}), bare=_tried(_maps(unit, "bare"), CHECKS)
        )
    except (DatapathError, source.SourceMissingError, OSError) as error:
        return SelfTest(error=str(error))


def _tried(maps: Maps, checks: Mapping[str, Callable[[Circuit], None]]) -> tuple[Check, ...]:
    found = []
    for name, check in checks.items():
        try:
            with circuit(maps) as made:
                check(made)
            found.append(Check(name))
        except (CheckFailedError, OSError) as error:
            found.append(Check(name, str(error)))
    return tuple(found)


def _maps(unit: Unit, sockets: str) -> Maps:
    names = (sockets, "targets", "endings", "counters", "spliced")
    return Maps(*(Map(os.dup(unit.map_fd(name))) for name in names))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


if __name__ == "__main__":
    sys.exit(main())
