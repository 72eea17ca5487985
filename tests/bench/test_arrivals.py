"""The open loop's bookkeeping: latency counts from when a request was due."""

from __future__ import annotations

from meshd.bench.arrivals import Arrivals

MS = 1_000_000


def test_requests_are_sent_when_they_are_due_on_the_connection_that_was_idle_longest() -> None:
    arrivals = Arrivals(rate=1000, count=3, connections=2, start=0)
    assert arrivals.next(0) == 0
    assert arrivals.next(0) is None, "the second is due after a millisecond"
    assert arrivals.next(1 * MS) == 1
    assert arrivals.next(2 * MS) is None, "both connections are busy"
    arrivals.complete(1, 2 * MS + 300_000)
    assert arrivals.next(2 * MS + 300_000) == 1
    arrivals.complete(0, 2 * MS + 500_000)
    assert arrivals.answered < 3
    arrivals.complete(1, 3 * MS)
    assert arrivals.finished
    assert arrivals.next(9 * MS) is None
    assert arrivals.latencies == {1300: 1, 2500: 1, 1000: 1}
    assert (arrivals.answered, arrivals.late, arrivals.seconds) == (3, 0, 0.003)


def test_a_stall_shows_in_every_request_that_it_held_up() -> None:
    """One connection, a request each millisecond, the server stalls for 100 ms and is instantaneous else."""
    arrivals = Arrivals(rate=1000, count=200, connections=1, start=0)
    now = 0
    while not arrivals.finished:
        number = arrivals.next(now)
        if number is None:
            now += MS
            continue
        if arrivals.sent == 51:
            now += 100 * MS
        arrivals.complete(number, now)
    slow = sum(count for micros, count in arrivals.latencies.items() if micros > 1000)
    assert slow == 99, "of the stall's 100, the last one waited one millisecond"
    assert max(arrivals.latencies) == 100_000
    assert arrivals.late == 0, "it was not the tool's fault"


def test_a_tool_that_is_too_slow_notices() -> None:
    arrivals = Arrivals(rate=1000, count=10, connections=10, start=0)
    now = 20 * MS
    while (number := arrivals.next(now)) is not None:
        arrivals.complete(number, now)
    assert arrivals.late == 10
    assert min(arrivals.latencies) == 11_000
