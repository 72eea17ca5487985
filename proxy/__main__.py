"""A proxy worker process: ``python -m proxy --socket PATH --worker N``. The agent starts it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import signal
from pathlib import Path

import uvloop

from meshd import cgroup_home, log
from proxy.http2.loaded import load_library
from proxy.http2.nghttp2 import LibraryError
from proxy.worker import Start, Worker

_GC_THRESHOLD = 20_000
"""Allocations between two collections: a request's objects die by reference count, and are many."""


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="meshd-proxy", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="the agent's Unix socket for workers")
    parser.add_argument("--worker", type=int, required=True, help="this worker's index on the node, from 0")
    parser.add_argument("--build", default="", help="the code that it is started from, told to agents")
    parser.add_argument("--wire", default="", help="the messages that it understands, told to agents")
    parser.add_argument(
        "--orphaned-after",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="without an agent, after which it drains and ends (default: 0, never)",
    )
    parser.add_argument(
        "--join", type=Path, action="append", default=[], metavar="CGROUP", help="to be in from the start"
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    args = parser.parse_args()
    log.configure(args.log_level)
    _raise_open_files()
    try:
        for folder in args.join:
            cgroup_home.join(folder)
    except OSError as error:
        raise SystemExit(f"meshd-proxy: cannot move into cgroup {error.filename}: {error.strerror}") from None
    try:
        load_library()
    except LibraryError as error:
        raise SystemExit(f"meshd-proxy: {error}") from None
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Start(args.socket, args.worker, args.build, args.wire, args.orphaned_after)))


async def _serve(start: Start) -> None:
    worker = Worker(start)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    loop.add_signal_handler(signal.SIGINT, worker.stop)
    loop.add_signal_handler(signal.SIGUSR1, worker.reopen_access_log)
    await worker.run()


def _raise_open_files() -> None:
    """Every connection is a file, and so is every upstream one: take all that we are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
