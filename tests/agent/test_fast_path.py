from __future__ import annotations

import pytest

from meshd.agent.annotations import FastPathChoice, annotated_choice
from meshd.agent.fast_path import Wish, decide
from meshd.datapath.selftest.outcome import Check, SelfTest

GOOD = SelfTest(checks=(Check("redirect"),))
BAD = SelfTest(checks=(Check("redirect"), Check("reset", "no reset")))


@pytest.mark.parametrize(
    ("wish", "tested", "on", "reason", "warning"),
    [
        (Wish.AUTO, GOOD, True, "the self-test passed", ""),
        (Wish.AUTO, BAD, False, "self-test 'reset' failed: no reset", ""),
        (Wish.AUTO, SelfTest(error="no bcc"), False, "self-test could not run: no bcc", ""),
        (Wish.AUTO, None, False, "no self-test was run", ""),
        (Wish.OFF, GOOD, False, "--fast-path off", ""),
        (Wish.ON, GOOD, True, "--fast-path on; the self-test passed", ""),
        (Wish.ON, None, True, "--fast-path on", "on without a self-test"),
        (Wish.ON, BAD, True, "--fast-path on", "on although the self-test 'reset' failed: no reset"),
    ],
)
def test_the_self_test_decides_unless_told_otherwise(
    wish: Wish, tested: SelfTest | None, on: bool, reason: str, warning: str
) -> None:
    found = decide(wish, tested)
    assert (found.on, found.reason, found.warning) == (on, reason, warning)
    assert found.mode == ("full" if on else "off")


def test_an_access_log_without_sampling_is_said() -> None:
    assert "--access-log-sample" in decide(Wish.AUTO, GOOD, 0, access_log=True).reason
    assert decide(Wish.AUTO, GOOD, 100, access_log=True).reason == "the self-test passed"
    assert decide(Wish.AUTO, BAD, 0, access_log=True).reason == "self-test 'reset' failed: no reset"


def test_a_workload_may_stay_off() -> None:
    assert annotated_choice({}) == FastPathChoice(True)
    assert annotated_choice({"meshd.io/fast-path": "on"}) == FastPathChoice(True)
    off = FastPathChoice(False, reason="annotation meshd.io/fast-path")
    assert annotated_choice({"meshd.io/fast-path": "off", "meshd.io/tcp-fast-path": "on"}) == off
    choice = annotated_choice({"meshd.io/fast-path": "false"})
    assert choice.on
    assert choice.reason == "annotation meshd.io/fast-path: 'false' is neither on nor off and is not used"


def test_a_workload_may_have_its_opaque_connections_joined() -> None:
    assert annotated_choice({"meshd.io/tcp-fast-path": "on"}) == FastPathChoice(True, True)
    assert annotated_choice({"meshd.io/tcp-fast-path": "off"}) == FastPathChoice(True, False)
    on, joins, reason = annotated_choice({"meshd.io/tcp-fast-path": "1"})
    assert (on, joins) == (True, None)
    assert reason == "annotation meshd.io/tcp-fast-path: '1' is neither on nor off and is not used"
