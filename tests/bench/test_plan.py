"""What a benchmark runs, in which order."""

from __future__ import annotations

import pytest

from meshd.bench import plan
from meshd.bench.plan import Load, Plan
from meshd.bench.results import PROTOCOLS


def small(rounds: int = 3) -> Plan:
    return Plan(
        scenarios=("direct", "sidecar", "meshd-fast"),
        loads=(Load("same-node", 1), Load("two-nodes", 64)),
        rounds=rounds,
        seconds=1,
        memory_pods=(),
    )


def test_every_round_has_every_load_on_every_scenario() -> None:
    runs = list(small().runs())
    for number in range(4):
        made = {(run.scenario, run.load) for run in runs if run.round == number}
        assert len(made) == 6
    assert [run.round for run in runs] == sorted(run.round for run in runs)


def test_scenarios_of_a_load_follow_one_another_and_take_turns_at_being_first() -> None:
    runs = list(small().runs())
    groups = [runs[i : i + 3] for i in range(0, len(runs), 3)]
    assert all(len({(run.round, run.load) for run in group}) == 1 for group in groups)
    assert {group[0].scenario for group in groups} == {"direct", "sidecar", "meshd-fast"}


def test_loads_of_ones_own_are_all_combinations() -> None:
    loads = plan.chosen_loads(("same-node",), (1, 16), (16, 1024), (), (False, True), ())
    assert len(loads) == 8
    assert Load("same-node", 16, 1024, "http1", True, None) in loads
    assert plan.chosen_loads(("two-nodes",), (), (), (), (), (500,)) == (Load("two-nodes", rate=500),)


def test_the_standard_set_has_what_a_report_promises() -> None:
    loads = plan.standard_loads(plan.ordered_placements(()))
    assert {load.placement for load in loads} == {"same-node", "two-nodes"}
    assert {load.body_bytes for load in loads} == {16, 1024, 16384, 1048576}
    assert {load.protocol for load in loads} == set(PROTOCOLS)
    assert {load.route for load in loads} == {False, True}
    assert sum(load.rate is not None for load in loads) >= 8
    assert len(set(loads)) == len(loads)


@pytest.mark.parametrize("options", [{"rate": 500}, {"body_bytes": 1 << 20}])
def test_a_load_that_nobody_can_make_is_not_run(options: dict[str, int]) -> None:
    load = Load("same-node", protocol="grpc-stream", **options)  # type: ignore[arg-type]
    assert "streams are measured" in load.impossible
    assert list(Plan(("direct",), (load,), 1, 1, ()).runs()) == []
    assert not Load("same-node", protocol="grpc-stream").impossible


def test_answers_are_looked_at_once_for_loads_that_have_the_same() -> None:
    asked = {Load("same-node", c, protocol=p).asked_once for c in (1, 64) for p in PROTOCOLS}
    assert {load.protocol for load in asked} == set(PROTOCOLS) - {"http1-close"}
    assert len(asked) == len(PROTOCOLS) - 1


def test_a_lab_has_a_second_node_only_where_one_is_called() -> None:
    assert small().nodes == 2
    assert Plan(("direct",), (Load("same-node"),), 1, 1, ()).nodes == 1
