"""What ``meshd lab`` prints for people."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from meshd.cli.table import table
from meshd.lab.command.protocol import Status

_POLL_SECONDS = 0.1


def status_text(name: str, status: Status) -> str:
    """The lab as tables."""
    nodes = table(
        ["NODE", "IP", "STATE"],
        [(node.name, node.ip, "ready" if node.ready else "agent does not answer") for node in status.nodes],
    )
    pods = table(
        ["NAMESPACE", "POD", "NODE", "IP", "READY", "MESH", "RESTARTS", "STATE"],
        [
            (
                pod.namespace,
                pod.name,
                pod.node,
                pod.ip,
                "yes" if pod.ready else "no",
                pod.mesh.value,
                pod.restarts,
                f"{pod.phase}: {pod.reason}" if pod.reason and not pod.ready else pod.phase,
            )
            for pod in status.pods
        ],
    )
    services = table(
        ["NAMESPACE", "SERVICE", "IP", "PORTS"],
        [
            (
                service.namespace,
                service.name,
                service.ip,
                " ".join(f"{port.port}/{port.protocol}" for port in service.ports),
            )
            for service in status.services
        ],
    )
    return "\n\n".join([f"lab {name}, mode {status.mode}", nodes, pods, services, *status.missing])


def followed(path: Path, follow: bool) -> None:
    """Write a log file to standard output; with ``follow`` until its pod is gone or the user interrupts."""
    if not path.exists() and not follow:
        return
    while not path.exists():
        if not path.parent.exists():
            return
        time.sleep(_POLL_SECONDS)
    with path.open("rb") as file:
        while True:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            if not follow or not path.exists():
                return
            if path.stat().st_size < file.tell():  # it was cut
                file.seek(0)
            time.sleep(_POLL_SECONDS)
