"""The table of token buckets, shared by real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.filters.token_bucket import Rate
from proxy.node_buckets import FILE_NAME, MAX_BUCKETS, NodeBuckets

DAY = 86_400 * 10**9
NAME = b"\x01bucket\x02"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE_NAME


@contextlib.contextmanager
def opened(path: Path | None, patience: float = 10.0) -> Iterator[NodeBuckets]:
    buckets = NodeBuckets(path, patience)
    try:
        yield buckets
    finally:
        buckets.close()


def slow(burst: int) -> Rate:
    """As many tokens as ``burst`` in a test's time, whatever the machine."""
    return Rate(DAY, DAY * burst)


def taken(buckets: NodeBuckets, rate: Rate, tries: int) -> int:
    return sum(buckets.take(NAME, rate) for _ in range(tries))


def test_a_bucket_begins_full_and_is_the_same_for_all(path: Path) -> None:
    with opened(path) as one, opened(path) as other:
        assert taken(one, slow(10), 4) == 4
        assert taken(other, slow(10), 20) == 6
        assert taken(one, slow(10), 1) == 0
        assert path.stat().st_mode & 0o777 == 0o600


def test_it_outlives_whoever_has_it_open(path: Path) -> None:
    with opened(path) as buckets:
        assert taken(buckets, slow(3), 2) == 2
    with opened(path) as buckets:
        assert taken(buckets, slow(3), 5) == 1


def test_it_fills_again() -> None:
    with opened(None) as buckets:
        quick = Rate(1000, 2000)
        assert taken(buckets, quick, 2) == 2
        while not buckets.take(NAME, quick):
            pass


_TAKER = """
import sys
from pathlib import Path
from proxy.filters.token_bucket import Rate
from proxy.node_buckets import NodeBuckets
buckets = NodeBuckets(Path(sys.argv[1]), 30.0)
sys.stdin.read()
day = 86_400 * 10**9
print(sum(buckets.take(b"\\x01bucket\\x02", Rate(day, 3000 * day)) for _ in range(2000)), buckets.unguarded)
"""


def test_no_token_is_spent_twice(path: Path) -> None:
    """Four processes want 8,000 of 3,000."""
    command = [sys.executable, "-c", _TAKER, str(path)]
    with contextlib.ExitStack() as stack:
        takers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(4)
        ]
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.close()
        counts = [
            [int(n) for n in (taker.stdout.read() if taker.stdout else b"").split()] for taker in takers
        ]
    assert [unguarded for _, unguarded in counts] == [0] * 4
    assert sum(count for count, _ in counts) == 3000


_HOLDER = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
print("locked", flush=True)
sys.stdin.read()
"""


def test_who_dies_or_stops_with_the_lock_holds_nobody_up(path: Path) -> None:
    with opened(path, patience=0.001) as buckets:
        command = [sys.executable, "-c", _HOLDER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            try:
                assert holder.stdout.readline() == b"locked\n"
                holder.send_signal(signal.SIGSTOP)
                assert taken(buckets, slow(5), 3) == 3
                assert buckets.unguarded == 3
            finally:
                holder.kill()
        assert taken(buckets, slow(5), 3) == 2
        assert buckets.unguarded == 3


def test_locks_of_other_sets_do_not_matter(path: Path) -> None:
    with opened(path, patience=0.0) as buckets:
        at = int.from_bytes(NAME, "little") % (MAX_BUCKETS // 8) * 128
        other = os.open(path, os.O_RDWR)
        try:
            for start, length in ((0, at), (at + 128, 0)):
                wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
                fcntl.fcntl(other, fcntl.F_OFD_SETLK, wanted)
            assert taken(buckets, slow(5), 6) == 5
            assert buckets.unguarded == 0
        finally:
            os.close(other)


def test_a_full_table_gives_up_what_is_nearest_to_full() -> None:
    sets = MAX_BUCKETS // 8
    alike = [(n * sets).to_bytes(8, "little") for n in range(1, 10)]
    with opened(None) as buckets:
        for n, name in enumerate(alike[:8]):
            for _ in range(8 - n):
                assert buckets.take(name, slow(8))
        assert buckets.displaced == 0
        assert buckets.take(alike[8], slow(8))
        assert buckets.displaced == 1
        assert not buckets.take(alike[0], slow(8))  # the emptiest is still there
        assert buckets.take(alike[7], slow(8))  # the fullest had given way
        assert buckets.displaced == 2


def test_a_full_bucket_gives_way_unnoticed() -> None:
    sets = MAX_BUCKETS // 8
    with opened(None) as buckets:
        for n in range(1, 1000):
            assert buckets.take((n * sets).to_bytes(8, "little"), Rate(1, 1))
        assert buckets.displaced <= 8  # those of the last nanoseconds, if the clock is coarse
