"""Both load tools against servers whose latencies are known: what they find is what there was."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from meshd.bench import distribution, wrk
from meshd.bench.distribution import Percentiles
from meshd.bench.samples import HeadSizes, LoadError, Samples

SERVER = Path(__file__).with_name("known_server.py")
HEADS = HeadSizes(48, 48)
"""Of known_server.py's answers to keep-alive requests."""
BODY = 16
Answer = dict[str, object]


@contextlib.contextmanager
def known(*answers: tuple[int, Answer]) -> Iterator[int]:
    """The port of a server that gives these answers in turn, each so many times."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), json.dumps(answers)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


def closed(port: int, connections: int = 4, seconds: int = 1, body: int = BODY) -> Samples:
    command = wrk.command(f"http://127.0.0.1:{port}/", {}, connections, seconds)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return wrk.samples(done.stdout + done.stderr, connections, body, HEADS)


def opened(port: int, rate: int, seconds: float, *more: str, connections: int = 8) -> dict[str, object]:
    command = [
        sys.executable, "-m", "meshd.bench.open_loop", "127.0.0.1", str(port), "/", "--body", str(BODY),
        "--rate", str(rate), "--seconds", str(seconds), "--connections", str(connections), *more,
    ]  # fmt: skip
    done = subprocess.run(command, input="go\n", capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.startswith("ready\n"), done.stdout + done.stderr
    found: dict[str, object] = json.loads(done.stdout.removeprefix("ready\n"))
    return found


def latencies(found: Mapping[str, object]) -> list[tuple[int, int]]:
    pairs = found["latencies"]
    assert isinstance(pairs, list)
    return [(micros, count) for micros, count in pairs]


def percentiles(pairs: Mapping[int, int] | list[tuple[int, int]]) -> Percentiles:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return distribution.percentiles(distribution.histogram(items))


TWO_SPEEDS: list[tuple[int, Answer]] = [(19, {"after": 0.005}), (1, {"after": 0.06})]
"""95 of 100 answers come after 5 ms, 5 after 60 ms."""


def agrees_with_two_speeds(pairs: Mapping[int, int] | list[tuple[int, int]]) -> None:
    """A busy machine adds to latencies, and takes nothing away: the lower bounds are exact, the upper one
    only tells the two speeds apart. What percentiles a distribution has is test_distribution.py's."""
    found = percentiles(pairs)
    items = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    slow = sum(count for micros, count in items if micros >= 60_000)
    assert 5_000 <= min(items)[0] < 60_000
    # Those that were out at the end are not among them.
    assert slow >= 0.045 * sum(count for _, count in items) - 4
    assert 60_000 <= found.p99 <= found.p999 <= found.max


def test_closed_loop_finds_a_known_distribution() -> None:
    with known(*TWO_SPEEDS) as port:
        found = closed(port)
    assert not found.errors
    assert found.answers == sum(found.latencies.values()) > 50
    agrees_with_two_speeds(found.latencies)


def test_open_loop_finds_a_known_distribution() -> None:
    with known(*TWO_SPEEDS) as port:
        found = opened(port, 400, 1.0)
    assert (found["sent"], found["answered"]) == (400, 400)
    agrees_with_two_speeds(latencies(found))


def test_open_loop_finds_it_with_a_connection_for_each_request_too() -> None:
    with known(*TWO_SPEEDS) as port:
        found = opened(port, 200, 1.0, "--new-connections")
    assert found["answered"] == 200
    agrees_with_two_speeds(latencies(found))


STALL = 0.5


def stalling(after: int) -> list[tuple[int, Answer]]:
    return [(after, {}), (1, {"stall": STALL}), (10_000_000, {})]


def test_open_loop_shows_a_stall_in_all_requests_that_it_held_up() -> None:
    """At 400 a second, half a second's stall meets 200 of 800 requests: they wait 250 ms on the average."""
    with known(*stalling(200)) as port:
        found = opened(port, 400, 2.0)
    held_up = sum(count for micros, count in latencies(found) if micros > 50_000)
    assert found["answered"] == 800
    assert held_up >= 170
    assert percentiles(latencies(found)).p90 > 200_000


def test_closed_loop_has_one_slow_answer_for_each_connection_in_a_stall() -> None:
    """Nothing is added for requests that were not sent, as wrk would do; the open loop is there to know."""
    with known(*stalling(50)) as port:
        found = closed(port, connections=4, seconds=2)
    slow = sum(count for micros, count in found.latencies.items() if micros > 400_000)
    assert 4 <= slow < 100, "wrk would add one for each interval of the stall, hundreds"
    assert percentiles(found.latencies).max >= STALL * 1e6


WRONG: dict[str, Answer] = {
    "a fast 503": {"status": 503},
    "a body that is too short": {"body": "0123456789"},
    "a body that is too long": {"body": "0123456789abcdef" * 4},
    "no answer": {"close": True},
}


@pytest.mark.parametrize("how", WRONG)
def test_closed_loop_counts_no_wrong_answer(how: str) -> None:
    """They are fast, and one in three: their latencies would look well."""
    with known((2, {"after": 0.002}), (1, WRONG[how])) as port:
        found = closed(port)
    assert found.errors > 0
    assert found.wrong
    assert (found.answers, dict(found.latencies)) == (0, {})


@pytest.mark.parametrize("how", WRONG)
def test_open_loop_counts_no_wrong_answer(how: str) -> None:
    with known((50, {}), (1, WRONG[how])) as port:
        found = opened(port, 400, 1.0)
    assert set(found) == {"failed"}


def test_open_loop_says_what_was_not_answered() -> None:
    with known((1, {"after": 0.1})) as port:  # eight connections carry 80 a second
        found = opened(port, 400, 1.0, "--drain", "0.2")
    assert isinstance(found["answered"], int)
    assert found["answered"] < 200


def test_a_server_that_does_not_listen() -> None:
    with known((1, {})) as port:
        pass
    with pytest.raises(LoadError, match="wrk"):
        closed(port)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("unable to connect\n", "wrk wrote no report: unable to connect"),
        ("", "nothing at all"),
        ("REPORT {\n", "wrk's report"),
        (
            'REPORT {"requests": 9, "microseconds": 90, "bytes": 576, "errors": 0, "latencies": [[5, 8]]}',
            "8 latencies of 9 requests",
        ),
    ],
)
def test_what_wrk_does_not_say_is_not_made_up(output: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        wrk.samples(output, 1, BODY, HEADS)
