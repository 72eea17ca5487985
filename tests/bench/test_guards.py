"""What bounds a benchmark."""

from __future__ import annotations

from meshd.bench.guards import Deadline


def test_a_deadline_is_said_and_counts_only_when_something_is_not_done() -> None:
    said: list[str] = []
    over = Deadline(0, said.append)
    assert (over.has_cut, said) == (False, [])
    assert over.passed("7 runs are not made")
    assert (over.has_cut, said) == (True, ["0 minutes are over: 7 runs are not made"])


def test_before_it_all_is_done() -> None:
    for minutes in (60, None):
        ahead = Deadline(minutes, lambda line: None)
        assert not ahead.passed("nothing")
        assert not ahead.has_cut
