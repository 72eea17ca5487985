"""A pid file names a number; whose process it is now, is another question."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = "import time; time.sleep(60)"
# An agent's workers outlive it, so this is a process of its own, as an agent is.
AGENT = """
import asyncio, sys
from pathlib import Path
from meshd.agent.worker_start import WorkerStart
from meshd.agent.workers import Greeting, Workers
from meshd.build import Build

async def main():
    start, configured = WorkerStart(Build("code", "wire"), 2), asyncio.Event()
    workers = Workers(1, Path(sys.argv[1]), Greeting(*[lambda *_: None] * 5), start, configured)
    running = asyncio.create_task(workers.run(workers.listen()))
    await workers.returned()
    while not workers.slots[0].pid:
        await asyncio.sleep(0.01)
    print(workers.slots[0].pid, flush=True)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

asyncio.run(main())
"""


def _looks_like_a_worker_of(folder: Path) -> subprocess.Popen[bytes]:
    arguments = ["proxy", "--socket", str(folder / "workers.sock"), "--worker", "0"]
    return subprocess.Popen([sys.executable, "-c", SLEEP, *arguments])


def _start_agent(folder: Path) -> None:
    """Let an agent start, to the point where its first worker is started; then end both."""
    command = [sys.executable, "-c", AGENT, str(folder)]
    # Only a line is read: the worker inherits the pipe, and holds it open for as long as it lives.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        started = int(agent.stdout.readline())
        with contextlib.suppress(ProcessLookupError):
            os.kill(started, signal.SIGKILL)
        assert agent.wait(60) == 0


def test_a_starting_agent_leaves_the_workers_of_other_instances_alone(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    stranger = _looks_like_a_worker_of(theirs)
    survivor = _looks_like_a_worker_of(ours)
    try:
        (ours / "worker-0.pid").write_text(f"{stranger.pid}\n")
        _start_agent(ours)
        assert stranger.poll() is None
        # One of ours is waited for, and ended as it does not come back.
        (ours / "worker-0.pid").write_text(f"{survivor.pid}\n")
        began = time.monotonic()
        _start_agent(ours)
        assert time.monotonic() - began > 3
        assert survivor.wait(60) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        for process in (stranger, survivor):
            process.kill()
            process.wait()
