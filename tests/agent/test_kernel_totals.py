from __future__ import annotations

from meshd.agent.kernel_totals import GRACE_SECONDS, MAX_KEPT_NAMES, KernelTotals, RuleNames
from meshd.agent.totals import RequestKey, RequestTotal, Totals
from meshd.datapath.counts.rows import Count, Row, UpcallRow
from meshd.model.wire import LATENCY_BUCKETS

NAMES = RuleNames("default/web:80", ("default/web/0", "default/web/1"), {7: "default/web-v1:80"})
ROW = Row(rules=1, netns=2, cluster=7, route=1, method=3, status=200)
KEY = RequestKey("default/web:80", "default/web/1", "default/web-v1:80", "default/client", "POST", 200, "")
COUNT = Count(3, 1_500_000_000, (1, 0, 1, *([0] * (len(LATENCY_BUCKETS) - 3)), 1))


def _totals() -> KernelTotals:
    totals = KernelTotals({3: "POST"})
    totals.rules_in_force({1: NAMES}, 0.0)
    totals.workloads_present({2: "default/client"}, 0.0)
    totals.services_in_force({5: "default/web:80"})
    return totals


def test_rows_are_named_as_the_workers_rows_are() -> None:
    (key,) = _totals().requests({ROW: COUNT})
    assert key == KEY
    total = _totals().requests({ROW: COUNT})[KEY]
    assert (total.count, total.seconds) == (3, 1.5)
    # Cumulative; what took longer than the last bound is in the count alone.
    assert total.buckets == [1, 1, *([2] * (len(LATENCY_BUCKETS) - 2))]


def test_the_kernels_requests_are_among_all() -> None:
    totals = Totals()
    totals.kernel = {KEY: RequestTotal(3, 1.5, [1] * len(LATENCY_BUCKETS))}
    for _ in range(2):
        assert totals.requests()[KEY].count == 3
    assert totals.kernel[KEY].count == 3


def test_what_went_leaves_the_kernel_after_the_grace_and_is_counted_on() -> None:
    totals = _totals()
    assert totals.finished([ROW], 1.0) == []
    totals.rules_in_force({}, 10.0)
    assert totals.finished([ROW], 10.0 + GRACE_SECONDS - 0.1) == []
    assert totals.requests({ROW: COUNT})[KEY].count == 3
    assert totals.finished([ROW], 10.0 + GRACE_SECONDS) == [ROW]
    totals.keep(ROW, COUNT)
    assert totals.requests({})[KEY].count == 3
    # A request that was under way for longer than that begins the row anew.
    assert totals.requests({ROW: COUNT})[KEY].count == 6
    again = KernelTotals({3: "POST"}, totals.kept())
    assert again.requests({})[KEY] == totals.requests({})[KEY]


def test_the_next_agent_knows_the_names_of_what_went() -> None:
    totals = _totals()
    totals.rules_in_force({}, 10.0)
    totals.workloads_present({}, 10.0)
    assert totals.kept([]).rules == {}
    again = KernelTotals({3: "POST"}, totals.kept([ROW]), 12.0)
    assert again.requests({ROW: COUNT})[KEY].count == 3
    assert again.finished([ROW], 12.0 + GRACE_SECONDS - 0.1) == []
    assert again.finished([ROW], 12.0 + GRACE_SECONDS) == [ROW]


def test_rows_of_a_workload_that_went_leave_too() -> None:
    totals = _totals()
    totals.workloads_present({}, 10.0)
    assert totals.finished([ROW], 10.0 + GRACE_SECONDS) == [ROW]
    assert totals.requests({ROW: COUNT})[KEY].count == 3


def test_rules_that_come_back_stay() -> None:
    totals = _totals()
    totals.rules_in_force({}, 10.0)
    totals.rules_in_force({1: NAMES}, 20.0)
    assert totals.finished([ROW], 20.0 + 10 * GRACE_SECONDS) == []


def test_a_row_without_a_name_waits_for_one_and_is_then_counted_without() -> None:
    totals = _totals()
    stranger = ROW._replace(rules=99)
    assert totals.finished([stranger], 5.0) == []
    assert totals.requests({stranger: COUNT}) == {}
    totals.rules_in_force({1: NAMES, 99: NAMES}, 6.0)
    assert totals.requests({stranger: COUNT})[KEY].count == 3
    other = ROW._replace(netns=98)
    assert totals.finished([other], 7.0) == []
    assert totals.finished([other], 7.0 + GRACE_SECONDS) == [other]
    totals.keep(other, COUNT)
    assert totals.requests({})[KEY._replace(source="unknown")].count == 3


def test_the_names_that_are_kept_are_bounded() -> None:
    totals = KernelTotals({})
    totals.rules_in_force(dict.fromkeys(range(1, 2 * MAX_KEPT_NAMES), NAMES), 0.0)
    totals.rules_in_force({}, 1.0)
    assert len(totals._old_rules) == MAX_KEPT_NAMES


def test_upcalls() -> None:
    totals = _totals()
    rows = {UpcallRow(5, "new"): 4, UpcallRow(6, "slow"): 2}
    assert totals.upcalls(rows) == {("default/web:80", "new"): 4, ("unknown", "slow"): 2}
    assert totals.finished_upcalls(rows, [6]) == {5}
    totals.keep_upcalls({UpcallRow(5, "new"): 4})
    totals.services_in_force({6: "default/api:80"})
    assert totals.upcalls({UpcallRow(6, "slow"): 2}) == {
        ("default/web:80", "new"): 4,
        ("default/api:80", "slow"): 2,
    }
    assert KernelTotals({}, totals.kept()).upcalls({}) == {("default/web:80", "new"): 4}
