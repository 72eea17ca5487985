"""Labs for the time of a measurement: ``meshd bench``'s own, with what it does not have."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from meshd.bench import guards, machine, testbed
from meshd.bench.results import Scenario
from meshd.bench.testbed import Bed, BedError

_UP_SECONDS = 300
IN_FORCE_SECONDS = 10.0
"""Routes may be in force later than pods are ready."""


@contextlib.contextmanager
def running(manifests: Mapping[Bed, Path], *options: str, nodes: int = 1) -> Iterator[None]:
    """Labs from these manifests, ended early by a signal; ``options`` are ``meshd lab up``'s.

    Raises BedError, BusyError, OSError, KeyboardInterrupt.
    """
    beds = list(manifests)
    with guards.alone("labs"), guards.signals_interrupt():
        try:
            testbed.take_down(beds)  # what a measurement that was killed has left
            with guards.ended() as starting:
                starting += [bed.up(manifest, nodes, *options) for bed, manifest in manifests.items()]
                for bed, process in zip(beds, starting, strict=True):
                    if reason := testbed.wait(process, _UP_SECONDS):
                        raise BedError(f"lab {bed.lab.name} did not start: {reason}")
            yield
        finally:
            with guards.signals_ignored():
                for problem in testbed.take_down(beds):
                    print(problem, file=sys.stderr)


def missing(scenarios: Sequence[Scenario]) -> str:
    """What the machine lacks, for people; empty: nothing."""
    return "; ".join(machine.missing(scenarios))
