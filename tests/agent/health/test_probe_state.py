from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.agent.health.probe_state import ProbeResult, ProbeState, Verdict
from meshd.model.cluster_policies import HealthCheck, TcpProbe

PASSED = ProbeResult()
LOST = ProbeResult("no answer within 1 s")
REFUSED = ProbeResult("HTTP status 500", certain=True)
CHECK = HealthCheck(probe=TcpProbe(), unhealthy_after=3, healthy_after=2)


def _after(*results: ProbeResult) -> Verdict:
    state = ProbeState()
    for result in results:
        state.take(result, CHECK)
    return state.verdict


def test_the_first_result_decides_at_once() -> None:
    assert _after() is Verdict.PENDING
    assert _after(PASSED) is Verdict.PASSED
    assert _after(LOST) is Verdict.FAILED


def test_so_many_without_an_answer_in_a_row_fail_an_endpoint() -> None:
    assert _after(PASSED, LOST, LOST) is Verdict.PASSED
    assert _after(PASSED, LOST, LOST, PASSED, LOST, LOST) is Verdict.PASSED
    assert _after(PASSED, LOST, LOST, LOST) is Verdict.FAILED


def test_an_answer_that_says_no_fails_it_at_once() -> None:
    assert _after(PASSED, REFUSED) is Verdict.FAILED


def test_so_many_passed_in_a_row_bring_it_back() -> None:
    assert _after(LOST, PASSED) is Verdict.FAILED
    assert _after(LOST, PASSED, LOST, PASSED) is Verdict.FAILED
    assert _after(LOST, PASSED, PASSED) is Verdict.PASSED


@given(
    st.lists(st.sampled_from((PASSED, LOST, REFUSED)), max_size=40),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_the_verdict_follows_from_the_last_results_alone(
    results: list[ProbeResult], unhealthy_after: int, healthy_after: int
) -> None:
    check = HealthCheck(probe=TcpProbe(), unhealthy_after=unhealthy_after, healthy_after=healthy_after)
    state = ProbeState()
    for taken, result in enumerate(results, start=1):
        before = state.verdict
        changed = state.take(result, check)
        assert changed == (state.verdict is not before)
        assert state.failure == result.failure
        seen = results[:taken]
        if taken == 1 or result.certain:
            assert state.verdict is (Verdict.FAILED if result.failure else Verdict.PASSED)
        # A row long enough decides whatever was before; a shorter one changes nothing.
        for verdict, enough in ((Verdict.PASSED, healthy_after), (Verdict.FAILED, unhealthy_after)):
            says_so = [bool(each.failure) == (verdict is Verdict.FAILED) for each in seen]
            if len(seen) >= enough and all(says_so[-enough:]):
                assert state.verdict is verdict
            elif changed and taken > 1 and state.verdict is verdict:
                assert result.certain
