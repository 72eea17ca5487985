"""Servers whose latencies are known, for the tests of load tools, and what all of those look at."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from meshd.bench import distribution
from meshd.bench.distribution import Percentiles

Answer = dict[str, object]
Latencies = Mapping[int, int] | list[tuple[int, int]]
BODY = 16
STALL = 0.5
"""Seconds."""
TWO_SPEEDS: list[tuple[int, Answer]] = [(19, {"after": 0.005}), (1, {"after": 0.06})]
"""95 of 100 answers come after 5 ms, 5 after 60 ms."""


@contextlib.contextmanager
def known(*answers: tuple[int, Answer], server: str = "known_server.py") -> Iterator[int]:
    """The port of a server that gives these answers in turn, each so many times."""
    program = str(Path(__file__).with_name(server))
    with subprocess.Popen(
        [sys.executable, program, json.dumps(answers)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def ran(tool: str, port: int, *more: str) -> dict[str, object]:
    """What a tool of ours reports that asks 127.0.0.1 for a body of BODY bytes."""
    command = [sys.executable, "-m", f"meshd.bench.{tool}", "127.0.0.1", str(port), "/", "--body", str(BODY)]
    done = subprocess.run(
        [*command, *more], input="go\n", capture_output=True, text=True, timeout=100, check=False
    )
    started = done.stdout.removeprefix("ready\n")
    found: dict[str, object] = json.loads(started)
    return found


def latencies(found: Mapping[str, object]) -> list[tuple[int, int]]:
    """Of such a report."""
    pairs = found["latencies"]
    assert isinstance(pairs, list)
    return [(micros, count) for micros, count in pairs]


def percentiles(pairs: Latencies) -> Percentiles:
    """Of (microseconds, count)."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return distribution.percentiles(distribution.histogram(items))


def agrees_with_two_speeds(pairs: Latencies) -> None:
    """A busy machine adds to latencies, and takes nothing away: the lower bounds are exact, the upper one
    only tells the two speeds apart. What percentiles a distribution has is test_distribution.py's."""
    found = percentiles(pairs)
    items = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    slow = sum(count for micros, count in items if micros >= 60_000)
    assert 5_000 <= min(items)[0] < 60_000
    # Those that were out at the end are not among them.
    assert slow >= 0.045 * sum(count for _, count in items) - 4
    assert 60_000 <= found.p99 <= found.p999 <= found.max


def stalling(after: int) -> list[tuple[int, Answer]]:
    """One stall of STALL seconds."""
    return [(after, {}), (1, {"stall": STALL}), (10_000_000, {})]
