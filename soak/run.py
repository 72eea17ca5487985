"""The soak from its first connection to the last trace of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import uvloop

from soak.clients import Clients, End
from soak.mesh import ELSEWHERE, HERE, SoakMesh, soak_mesh

_AT_WORK = 48
_SETTLE_SECONDS = 15.0
"""Within which all that connections had is given back: the kernel holds on to a FIN for a moment."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was seen."""

    seconds: float
    opened: int
    """Connections of clients."""
    carried: int
    """Requests, by the kernel to their end."""
    received: int
    """Requests that servers got whole."""
    ends: dict[End, int]
    worker_megabytes: tuple[float, float]
    """Resident, before and after."""
    faults: tuple[str, ...]
    """All that must not be; empty: it passed."""


def soak(seconds: float, connections: int, seed: int) -> Result:
    """So many connections at a time, each followed by another when it ends, for so long."""
    with soak_mesh() as mesh:
        files, memory = mesh.worker_files(), mesh.worker_megabytes()
        clients = Clients(seed, connections, _AT_WORK, [HERE, ELSEWHERE])
        began = time.monotonic()
        with mesh.pod.entered(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(clients.run(seconds))
        took = time.monotonic() - began
        faults, received = list(clients.faults), 0
        for server in mesh.servers:
            requests, found = server.end()
            received += requests
            faults += found
        if clients.ends[End.LOST] > clients.leaves:
            faults.append(f"{clients.ends[End.LOST]} requests lost, and servers left {clients.leaves} times")
        faults += _left(mesh, files)
        return Result(
            took,
            clients.opened,
            mesh.carried(),
            received,
            dict(clients.ends),
            (memory, mesh.worker_megabytes()),
            tuple(faults),
        )


def _left(mesh: SoakMesh, files: int) -> list[str]:
    """What of the connections has stayed."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        entries = {name: count for name, count in mesh.entries().items() if count}
        now = mesh.worker_files()
        if (not entries and now <= files) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    left = [f"{count} entries left in {name}" for name, count in entries.items()]
    return left + ([f"the workers had {files} files open, and have {now}"] if now > files else [])
