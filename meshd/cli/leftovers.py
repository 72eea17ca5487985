"""What a node may still have of agents: processes and run directories, found without any record of theirs."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from meshd.paths import CACHE_DIR, RUN_ROOT

_TERM_SECONDS = 3.0
_KILL_SECONDS = 5.0
_NOT_INSTANCES = frozenset(("labs", "control"))


@dataclass(frozen=True, slots=True)
class NodeProcess:
    """An agent or a proxy worker that runs."""

    pid: int
    role: str
    """``agent`` or ``worker``."""
    instance: str


def instances() -> list[str]:
    """The instances that have a run directory."""
    if not RUN_ROOT.is_dir():
        return []
    return sorted(d.name for d in RUN_ROOT.iterdir() if d.is_dir() and d.name not in _NOT_INSTANCES)


def processes() -> list[NodeProcess]:
    """All agents and workers that run on this kernel, by their command lines."""
    found: list[NodeProcess] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                found += _recognised(int(folder.name), arguments)
    return found


def workers(instance: str) -> list[NodeProcess]:
    """An instance's workers that run."""
    return [process for process in processes() if (process.role, process.instance) == ("worker", instance)]


def _recognised(pid: int, arguments: list[str]) -> Iterator[NodeProcess]:
    if "-m" in arguments and arguments[arguments.index("-m") + 1 :][:1] == ["proxy"]:
        channel = Path(_option(arguments, "--socket", ""))
        if channel.is_relative_to(RUN_ROOT) and channel != RUN_ROOT:
            yield NodeProcess(pid, "worker", channel.relative_to(RUN_ROOT).parts[0])
        return
    for command, following in itertools.pairwise(arguments):
        if following == "agent" and Path(command).name in ("meshd", "meshd.cli.main"):
            yield NodeProcess(pid, "agent", _option(arguments, "--instance", "default"))
            return


def _option(arguments: list[str], name: str, default: str) -> str:
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(name + "="):
            return argument[len(name) + 1 :]
    return default


def end(running: Iterable[NodeProcess]) -> Iterator[str]:
    """End processes: SIGTERM, and SIGKILL for those that do not heed it. Says what ended."""
    handles = []
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            # A handle first: a pid may be another process's by the time we signal.
            handles.append((process, os.pidfd_open(process.pid)))
    try:
        for number, seconds in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
            for _, handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            _wait([handle for _, handle in handles], seconds)
        for process, _ in handles:
            yield f"{process.role} ended (pid {process.pid}, instance {process.instance})"
    finally:
        for _, handle in handles:
            os.close(handle)


def _wait(handles: list[int], seconds: float) -> None:
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + seconds
    remaining = len(handles)
    while remaining and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            remaining -= 1


def remove_run_dir(instance: str) -> Iterator[str]:
    """Remove an instance's run directory. Says so. Raises OSError."""
    folder = RUN_ROOT / instance
    if folder.is_dir():
        shutil.rmtree(folder)
        yield f"run directory removed ({folder})"
    with contextlib.suppress(OSError):  # others are there, or nothing is
        RUN_ROOT.rmdir()


def remove_cache() -> Iterator[str]:
    """Remove what all instances of the machine share. Says so. Raises OSError."""
    if CACHE_DIR.is_dir():
        for entry in CACHE_DIR.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with contextlib.suppress(OSError):  # a mount point, where the agent is a container
            CACHE_DIR.rmdir()
        yield f"cache removed ({CACHE_DIR})"
