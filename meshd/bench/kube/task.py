"""What a Job is told and what it answers: one line of JSON each way. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from meshd.bench.plan import Load
from meshd.bench.results import Machine, Round

_MARK = "MESHD-BENCH "


class TaskError(Exception):
    """A Job's output holds no finding; the message says what it holds."""


class Task(msgspec.Struct, frozen=True):
    """One run of one load."""

    load: Load
    number: int
    """Of the round."""
    seconds: int
    captured: Literal["by meshd", "by nobody else"]
    """Whether connections to the service must be meshd's, or must not."""
    patience: float = 30.0
    """Seconds for the service to be known to the mesh, and for a sidecar to be up."""


class Finding(msgspec.Struct, frozen=True):
    """What came of it."""

    failed: str = ""
    """Why the run says nothing; empty: it was made."""
    wrong: str = ""
    """What was wrong with answers, if the round has errors."""
    round: Round | None = None
    latencies: list[tuple[int, int]] = []
    """Microseconds to how often."""
    machine: Machine | None = None
    """The client's node, as far as a pod can see it."""


def task(text: str) -> Task:
    """A Job's argument. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=Task)


def argument(of: Task) -> str:
    """The same, the other way."""
    return msgspec.json.encode(of).decode()


def line(found: Finding) -> str:
    """As a Job prints it."""
    return f"{_MARK}{msgspec.json.encode(found).decode()}"


def finding(output: str) -> Finding:
    """From a Job's log. Raises TaskError."""
    marked = [one for one in output.splitlines() if one.startswith(_MARK)]
    if not marked:
        raise TaskError(f"its log has no result: {output.strip()[-300:] or 'it is empty'}")
    try:
        return msgspec.json.decode(marked[-1].removeprefix(_MARK), type=Finding)
    except msgspec.DecodeError as error:
        raise TaskError(f"its log's result cannot be read: {error}") from error
