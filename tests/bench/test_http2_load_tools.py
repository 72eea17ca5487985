"""The load tools of HTTP/2 and gRPC against servers that are known: what they find is what there was."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.bench import h2load, wanted
from meshd.bench.plan import Load
from meshd.bench.results import Protocol
from meshd.bench.samples import LoadError, Samples
from tests.bench.known import (
    BODY,
    TWO_SPEEDS,
    Answer,
    agrees_with_two_speeds,
    known,
    latencies,
    percentiles,
    ran,
    stalling,
)
from tests.support.lab import until

MESSAGE = wanted.message(wanted.body(BODY)).decode()
OK: Answer = {"body": MESSAGE, "trailers": {"grpc-status": "0"}}
SERVER = "known_http2_server.py"


def closed(port: int, folder: Path, protocol: Protocol = "h2") -> Samples:
    load = Load("same-node", 4, BODY, protocol)
    h2load.prepare(folder)
    command = h2load.command(load, {"x-bench": "yes"}, 1, folder)
    command[-1] = f"http://127.0.0.1:{port}/"
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return h2load.samples(load, done.stdout + done.stderr, h2load.log(folder))


def opened(port: int, rate: int, seconds: float, protocol: Protocol = "h2") -> dict[str, object]:
    load = ("--rate", str(rate), "--seconds", str(seconds), "--connections", "8", "--protocol", protocol)
    return ran("open_loop", port, *load, "--drain", "20")


def test_closed_loop_finds_a_known_distribution(tmp_path: Path) -> None:
    with known(*TWO_SPEEDS, server=SERVER) as port:
        found = closed(port, tmp_path)
    assert (found.errors, found.wrong) == (0, "")
    assert found.answers == sum(found.latencies.values()) > 50
    agrees_with_two_speeds(found.latencies)


def test_open_loop_finds_a_known_distribution() -> None:
    with known(*TWO_SPEEDS, server=SERVER) as port:
        found = opened(port, 400, 1.0)
    assert (found["failed"], found["answered"]) == ("", 400)
    agrees_with_two_speeds(latencies(found))


def test_open_loop_shows_a_stall_in_all_requests_that_it_held_up() -> None:
    with known(*stalling(200), server=SERVER) as port:
        found = opened(port, 400, 2.0)
    assert found["answered"] == 800
    assert sum(count for micros, count in latencies(found) if micros > 50_000) >= 170
    assert percentiles(latencies(found)).p90 > 200_000


def test_calls_are_measured_as_other_requests_are(tmp_path: Path) -> None:
    with known((1, OK), server=SERVER) as port:
        found, at_a_rate = closed(port, tmp_path, "grpc"), opened(port, 200, 1.0, "grpc")
    assert (found.errors, found.wrong) == (0, "")
    assert found.answers > 50
    assert (at_a_rate["failed"], at_a_rate["answered"]) == ("", 200)


UNAVAILABLE = {"grpc-status": "14", "grpc-message": "nobody is there"}
WRONG: dict[str, tuple[Protocol, Answer]] = {
    "a fast 503": ("h2", {"status": 503}),
    "a body that is too short": ("h2", {"body": "0123456789"}),
    "a body that is too long": ("h2", {"body": "0123456789abcdef" * 4}),
    "no answer": ("h2", {"reset": 2}),
    "a call's error": ("grpc", {"body": "", "trailers": UNAVAILABLE}),
    "a call that was reset": ("grpc", {"reset": 7}),
}
ONLY_AT_A_RATE: dict[str, tuple[Protocol, Answer]] = {
    "a message and then an error": ("grpc", {"body": MESSAGE, "trailers": UNAVAILABLE}),
    "a message without a status": ("grpc", {"body": MESSAGE}),
}
"""h2load does not look at trailers (docs/bench.md)."""


def among_right_ones(protocol: Protocol, answer: Answer) -> list[tuple[int, Answer]]:
    """They are fast, and one in three: their latencies would look well."""
    right = OK if protocol == "grpc" else {}
    return [(2, {**right, "after": 0.002}), (1, answer)]


@pytest.mark.parametrize("how", WRONG)
def test_closed_loop_counts_no_wrong_answer(how: str, tmp_path: Path) -> None:
    protocol, answer = WRONG[how]
    with known(*among_right_ones(protocol, answer), server=SERVER) as port:
        found = closed(port, tmp_path, protocol)
    assert found.errors > 0
    assert found.wrong
    assert (found.answers, dict(found.latencies)) == (0, {})


@pytest.mark.parametrize("how", [*WRONG, *ONLY_AT_A_RATE])
def test_open_loop_counts_no_wrong_answer(how: str) -> None:
    protocol, answer = (WRONG | ONLY_AT_A_RATE)[how]
    with known(*among_right_ones(protocol, answer), server=SERVER) as port:
        found = opened(port, 400, 1.0, protocol)
    assert found["failed"]
    assert found["latencies"] == []
    if "trailers" in answer:
        assert "grpc-status 14: nobody is there" in str(found["failed"])


@contextlib.contextmanager
def echoing() -> Iterator[int]:
    """The port of the streams' own server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    command = [sys.executable, "-m", "meshd.bench.echo_server", str(port)]
    with subprocess.Popen(command) as server:
        try:
            until(listens)
            yield port
        finally:
            server.terminate()


def streamed(port: int) -> dict[str, object]:
    return ran("streaming", port, "--seconds", "1", "--connections", "3", "--drain", "20")


def test_messages_go_to_and_fro_on_streams() -> None:
    with echoing() as port:
        found = streamed(port)
    assert found["failed"] == ""
    assert found["answered"] == sum(count for _, count in latencies(found))
    assert percentiles(latencies(found)).p50 > 0


def test_a_server_that_is_none_of_streams_is_not_measured() -> None:
    """It answers the first message, and ends the stream."""
    with known((1, OK), server=SERVER) as port:
        found = streamed(port)
    assert "a stream ended early, with grpc-status 0" in str(found["failed"])
    assert found["latencies"] == []


def test_a_server_that_does_not_listen(tmp_path: Path) -> None:
    with known((1, {}), server=SERVER) as port:
        pass
    with pytest.raises(LoadError, match="h2load"):
        closed(port, tmp_path)
    assert "refused" in str(opened(port, 100, 1.0)["failed"])
    assert "refused" in str(streamed(port)["failed"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "h2load wrote no report: nothing at all"),
        (
            "requests: 3 total, 3 started, 3 done, 3 succeeded, 0 failed, 0 errored, 0 timeout\n"
            "traffic: 1KB (1000) total, 9B (9) headers (space savings 1.00%), 48B (48) data\n",
            "2 latencies of 3 requests",
        ),
    ],
)
def test_what_h2load_does_not_say_is_not_made_up(output: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        h2load.samples(Load("same-node", 1, BODY, "h2"), output, "1\t200\t5\n9\t200\t5\n")
