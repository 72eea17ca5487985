"""A child process in a sandbox, watched by the event loop through its pidfd."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshd.lab.system.sandbox import Sandbox


class StartError(RuntimeError):
    """A process could not be started: why."""


class Process:
    """A running child. Its output goes to a file; it is the leader of a session of its own."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._pidfd = os.pidfd_open(popen.pid)
        self._exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Not ended yet."""
        return not self._exited.done()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set_result(self._popen.wait())

    async def wait(self) -> int:
        """The exit code, negative for a signal, once it has ended."""
        return await asyncio.shield(self._exited)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        if self.running:
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a command is started with."""

    sandbox: Sandbox
    log: Path
    """Its output is appended to this file."""
    env: Mapping[str, str]
    folder: str = "/"


def start(command: Sequence[str], inside: Surroundings) -> Process:
    """Start a command. Raises StartError.

    The supervisor runs no threads, so running Python between fork and exec is safe.
    """
    output = os.open(inside.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def enter() -> None:
        try:
            inside.sandbox.enter()
        except OSError as error:  # Popen reports only that something was raised here
            os.write(output, f"cannot enter the pod: {error}\n".encode())
            raise

    try:
        return Process(
            subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(inside.env),
                cwd=inside.folder,
                start_new_session=True,
                preexec_fn=enter,
            )
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        reason = f"cannot start {command[0]}: {error}"
        os.write(output, f"{reason}\n".encode())
        raise StartError(reason) from None
    finally:
        os.close(output)


async def run(command: Sequence[str], inside: Surroundings, seconds: float) -> int:
    """Run a command to its end and return its exit code; -SIGKILL when it takes longer than ``seconds``.

    Raises StartError.
    """
    process = start(command, inside)
    try:
        return await asyncio.wait_for(process.wait(), seconds)
    except TimeoutError:
        return -signal.SIGKILL
    finally:
        if process.running:
            os.killpg(process.pid, signal.SIGKILL)
