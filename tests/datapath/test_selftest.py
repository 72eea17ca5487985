from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.selftest.checks import CHECKS, LONG
from meshd.datapath.selftest.outcome import Check, SelfTest, kept_result, self_test
from meshd.datapath.selftest.sockets import (
    CheckFailedError,
    expect_bytes,
    expect_end,
    expect_readable,
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("selftest") / "selftest.json"


@pytest.fixture(scope="module")
def result(kept: Path) -> SelfTest:
    return self_test(kept)


def test_this_kernel_carries_the_fast_path(result: SelfTest) -> None:
    assert result.reason == ""
    assert [check.name for check in result.checks] == [*CHECKS, *LONG]
    assert [check.name for check in result.bare] == list(CHECKS)


def test_a_result_is_kept(result: SelfTest, kept: Path) -> None:
    assert kept_result(kept) == result


@pytest.mark.parametrize("what", ["boot", "digest"])
def test_a_result_of_another_boot_or_other_programs_is_not_taken(
    result: SelfTest, kept: Path, tmp_path: Path, what: str
) -> None:
    other = tmp_path / "selftest.json"
    other.write_text(json.dumps({**json.loads(kept.read_bytes()), what: "another"}))
    assert kept_result(other) is None


def test_no_file_or_an_unreadable_one_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    assert kept_result(path) is None
    path.write_text("{")
    assert kept_result(path) is None


def test_the_reason_names_the_first_check_that_failed() -> None:
    found = SelfTest(checks=(Check("redirect"), Check("reset", "no reset"), Check("stream", "stops")))
    assert found.reason == "self-test 'reset' failed: no reset"
    assert SelfTest(error="no bcc").reason == "self-test could not run: no bcc"
    assert SelfTest().reason
    assert not SelfTest(bare=(Check("order"),)).verdict_program_needed
    assert SelfTest(bare=(Check("order", "out of order"),)).verdict_program_needed


_WITHOUT_PROGRAMS = """
import sys
from meshd import netns
from meshd.datapath.selftest import run as selftest_run
sys.path.insert(0, {root!r})
from tests.datapath.test_selftest import broken
unit = selftest_run.compile_other("selftest.c")
netns.leave()
selftest_run._loopback_up()
broken(selftest_run._maps(unit, "bare"))
"""


def broken(maps: object) -> None:
    """In a child: sockets in a map without programs, of which nothing is ever redirected."""
    from meshd.datapath.selftest.run import _tried
    from meshd.datapath.selftest.sockets import Maps

    assert isinstance(maps, Maps)
    assert isinstance(maps.sockets, Map)
    print(json.dumps({check.name: check.reason for check in _tried(maps, CHECKS)}))


def test_a_kernel_that_does_not_redirect_is_found_out() -> None:
    """The checks can fail: the same sockets, but no program."""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_PROGRAMS.format(root=root)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    reasons = json.loads(done.stdout.splitlines()[-1])
    assert reasons["redirect"] == "the server got 0 of 300 bytes, then nothing"
    for name in ("readable bytes", "epoll wake-ups", "half-close", "sendfile", "TCP's counters", "stream"):
        assert reasons[name], name


def test_expectations_on_plain_sockets() -> None:
    a, b = socket.socketpair()
    with a, b:
        b.settimeout(0.2)
        a.sendall(b"abc")
        expect_readable(b, 3, "here")
        expect_bytes(b, b"abc", "b")
        with pytest.raises(CheckFailedError, match="does not see the end"):
            expect_end(b, "b")
        a.sendall(b"abd")
        with pytest.raises(CheckFailedError, match="other bytes"):
            expect_bytes(b, b"abc", "b")
        with pytest.raises(CheckFailedError, match="FIONREAD says 0 when 1 bytes"):
            expect_readable(b, 1, "here")
        a.close()
        expect_end(b, "b")
        with pytest.raises(CheckFailedError, match="then the end"):
            expect_bytes(b, b"abc", "b")
