"""What the load tools of our own say, open_loop.py and streaming.py, and how they are called. Pure.

A tool connects, writes the line READY, waits for a line (what it took to start is not measured), asks, and
writes a report as one line of JSON.
"""

from __future__ import annotations

import sys

import msgspec

from meshd.bench import wanted
from meshd.bench.plan import Load
from meshd.bench.samples import LoadError, Samples

READY = "ready"
DRAIN_SECONDS = 0.25
"""How long a tool waits for its last answers. Short, so that a scenario that does not keep up is found out:
its latencies would only say how long the run was."""
_LATE_SHARE = 0.5
"""Of the open loop's requests: more sent late than this, and it is the tool that is too slow."""


class Report(msgspec.Struct, frozen=True):
    """What a tool writes at its end."""

    failed: str = ""
    """Why the run is worth nothing: the first wrong answer; empty: all are right."""
    sent: int = 0
    answered: int = 0
    late: int = 0
    """Of the open loop's: sent late although a connection was free."""
    seconds: float = 0.0
    latencies: list[tuple[int, int]] = []
    """Microseconds to how often."""
    failures: list[tuple[int, str]] = []
    """Of a run that goes on after one: when it was known (time.monotonic_ns), and what was wrong."""


def write(report: Report) -> None:
    """On standard output."""
    sys.stdout.write(msgspec.json.encode(report).decode())


def command(load: Load, seconds: int) -> list[str]:
    """The tool that makes a load, in the client's pod."""
    tool = "streaming" if load.rate is None else "open_loop"
    rate = [] if load.rate is None else ["--rate", str(load.rate), "--protocol", load.protocol]
    fields = [part for name, value in wanted.HEADERS.items() for part in ("--header", f"{name}:{value}")]
    return [
        sys.executable, "-m", f"meshd.bench.{tool}", wanted.host(load), str(wanted.PORTS[load.protocol]),
        wanted.path(load.body_bytes), "--body", str(load.body_bytes), "--seconds", str(seconds),
        "--drain", str(DRAIN_SECONDS), "--connections", str(load.connections), *rate, *fields,
    ]  # fmt: skip


def not_started(line: str, said: str) -> LoadError:
    """Why a tool did not write READY: it wrote ``line``, or ``said`` on standard error."""
    try:
        reason = decoded(line).failed
    except msgspec.DecodeError:
        reason = said.strip()[-300:]
    return LoadError(f"the load tool did not start: {reason}")


def decoded(text: str) -> Report:
    """A report. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=Report)


def samples(load: Load, seconds: int, out: str, said: str) -> Samples:
    """What a run showed, by its output and what it ``said`` on standard error. Raises LoadError."""
    try:
        report = decoded(out)
    except msgspec.DecodeError:
        raise LoadError(f"the load tool failed: {said.strip()[-300:]}") from None
    if report.failed:
        return Samples(0, float(seconds), 1, report.failed, {})
    if load.rate is not None:
        wanted_answers = load.rate * seconds
        unanswered = wanted_answers - report.answered
        if unanswered and report.late > report.sent * _LATE_SHARE:
            raise LoadError(f"the load generator itself cannot keep {load.rate} requests a second")
        if unanswered:
            wrong = (
                f"{load.rate} requests a second are too many for it: {unanswered} of {wanted_answers} were"
                f" not answered {DRAIN_SECONDS:g} s after the last was due"
            )
            return Samples(0, float(seconds), unanswered, wrong, {})
    return Samples(report.answered, report.seconds, 0, "", dict(report.latencies))
