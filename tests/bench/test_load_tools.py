"""The load tools of HTTP/1.1 against servers whose latencies are known: what they find is what there was."""

from __future__ import annotations

import subprocess

import pytest

from meshd.bench import wrk
from meshd.bench.samples import HeadSizes, LoadError, Samples
from tests.bench.known import (
    BODY,
    STALL,
    TWO_SPEEDS,
    Answer,
    agrees_with_two_speeds,
    known,
    latencies,
    percentiles,
    ran,
    stalling,
)

HEADS = HeadSizes(48, 48)
"""Of known_server.py's answers to keep-alive requests."""


def closed(port: int, connections: int = 4, seconds: int = 1, body: int = BODY) -> Samples:
    command = wrk.command(f"http://127.0.0.1:{port}/", {}, connections, seconds)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return wrk.samples(done.stdout + done.stderr, connections, body, HEADS)


def opened(port: int, rate: int, seconds: float, *more: str, protocol: str = "http1") -> dict[str, object]:
    load = ("--rate", str(rate), "--seconds", str(seconds), "--connections", "8", "--protocol", protocol)
    return ran("open_loop", port, *load, "--drain", "20", *more)


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
        found = opened(port, 200, 1.0, protocol="http1-close")
    assert found["answered"] == 200
    agrees_with_two_speeds(latencies(found))


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
    assert found["failed"]
    assert found["latencies"] == []


@pytest.mark.parametrize("how", WRONG)
def test_open_loop_that_endures_counts_failures_apart(how: str) -> None:
    with known((50, {}), (1, WRONG[how])) as port:
        found = opened(port, 400, 1.0, "--endure")
    failures = found["failures"]
    assert isinstance(failures, list)
    assert failures
    assert not found["failed"]
    assert found["answered"] == sum(count for _, count in latencies(found)) == 400 - len(failures)


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
