"""``python3 -m meshd.bench.kube.inside TASK`` in a Job's pod: check answers, run a load, print what came."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from meshd.bench import checking, driving, machine, wanted
from meshd.bench.answer import WrongAnswerError
from meshd.bench.header_blocks import BlockError
from meshd.bench.kube.task import Finding, Task, line, task
from meshd.bench.results import Party, Placement
from meshd.bench.samples import HeadSizes, LoadError

_CHECKS = 8
_HEAD_SLACK = 4
_WARM_UP_SECONDS = 1
_CONNECT_SECONDS = 5.0


class _Here:
    """This pod (driving.Place). It cannot read its node's cgroups, and pins nothing: the node is not ours."""

    def pin(self, client_cpu: int, server_cpu: int) -> None:
        pass

    def groups(self, placement: Placement) -> Mapping[Party, Sequence[Path]]:
        return {}

    def carried(self) -> int | None:
        return None

    @contextlib.contextmanager
    def running(self, command: Sequence[str], cpu: int | None = None) -> Iterator[subprocess.Popen[str]]:
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def perform(given: Task) -> Finding:
    """Run a task."""
    load = given.load
    try:
        heads = _checked(given)
        for number, seconds in ((0, _WARM_UP_SECONDS), (given.number, given.seconds)):
            driven = driving.drive(_Here(), load, number, seconds, heads, [])
    except (LoadError, WrongAnswerError, BlockError, OSError) as error:
        return Finding(failed=str(error), machine=machine.facts())
    # A pod cannot read the CPU time of the others.
    found = replace(driven.round, cpu_us_per_request=None, cpu_by_party={})
    latencies: list[tuple[int, int]] = []
    if driven.latencies is not None:
        recorded = driven.latencies.get_recorded_iterator()
        latencies = [(step.value_iterated_to, step.count_added_in_this_iter_step) for step in recorded]
    return Finding(wrong=driven.wrong, round=found, latencies=latencies, machine=machine.facts())


def _checked(given: Task) -> HeadSizes:
    """Are the answers right, and is the way to them the one to be measured? Raises
    WrongAnswerError, BlockError, OSError."""
    deadline = time.monotonic() + given.patience
    while True:
        try:
            _require_way(given)
            least, most = checking.ask(wanted.host(given.load), given.load.asked_once, _CHECKS)
        except (OSError, WrongAnswerError):
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.5)
        else:
            return HeadSizes(least, most + _HEAD_SLACK)


def _require_way(given: Task) -> None:
    """meshd leads a captured connection to the pod's own loopback address, whatever the app called
    (bpf/capture.h); no other way does. Raises WrongAnswerError, OSError."""
    address = wanted.host(given.load), wanted.PORTS[given.load.protocol]
    with socket.create_connection(address, _CONNECT_SECONDS) as connection:
        captured = ipaddress.ip_address(connection.getsockname()[0]).is_loopback
    if captured and given.captured != "by meshd":
        raise WrongAnswerError("meshd captures its connections, though its namespace has opted out")
    if not captured and given.captured == "by meshd":
        raise WrongAnswerError("meshd does not capture its connections: is an agent on its node, and ready?")


def main() -> int:
    """Perform the task that is the only argument."""
    found = perform(task(sys.argv[1]))
    print(line(found), flush=True)
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
