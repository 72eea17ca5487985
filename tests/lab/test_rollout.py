from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from meshd.lab.decisions.rollout import Replica, Step, next_step
from meshd.lab.manifests.objects import RollingUpdate, Strategy

_COUNTS = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "50%", "100%"]))
_STRATEGIES = st.builds(
    Strategy, rolling_update=st.builds(RollingUpdate, max_surge=_COUNTS, max_unavailable=_COUNTS)
)
_REPLICAS = st.lists(st.tuples(st.sampled_from(["old", "new"]), st.booleans()), max_size=8)


def _replicas(*kinds: tuple[str, bool]) -> list[Replica]:
    return [Replica(f"p{i}", template, ready, float(i)) for i, (template, ready) in enumerate(kinds)]


def test_the_first_rollout_makes_all_pods() -> None:
    assert next_step(3, "new", Strategy(), []) == Step(create=3)


def test_a_new_template_adds_one_pod_and_waits_for_it() -> None:
    both_old = _replicas(("old", True), ("old", True))
    assert next_step(2, "new", Strategy(), both_old) == Step(create=1)
    assert next_step(2, "new", Strategy(), [*both_old, Replica("n", "new", False, 0)]) == Step()
    ready = next_step(2, "new", Strategy(), [*both_old, Replica("n", "new", True, 0)])
    assert (ready.create, len(ready.delete)) == (0, 1)


def test_those_that_do_not_serve_go_first() -> None:
    found = next_step(1, "new", Strategy(), _replicas(("new", True), ("new", False), ("new", True)))
    assert found == Step(delete=("p1", "p0"))


def test_recreate_ends_all_before_it_begins() -> None:
    strategy = Strategy(type="Recreate")
    assert next_step(2, "new", strategy, _replicas(("old", True), ("old", True))) == Step(delete=("p0", "p1"))
    assert next_step(2, "new", strategy, []) == Step(create=2)


@given(st.integers(0, 5), _STRATEGIES, _REPLICAS)
def test_a_rollout_keeps_its_bounds_and_ends(
    wanted: int, strategy: Strategy, kinds: list[tuple[str, bool]]
) -> None:
    replicas = _replicas(*kinds)
    for step_number in range(50):
        step = next_step(wanted, "new", strategy, replicas)
        ready_before = sum(r.ready for r in replicas)
        replicas = [r for r in replicas if r.name not in step.delete]
        limits = strategy.rolling_update
        if isinstance(limits.max_unavailable, int):
            # With neither surge nor unavailability given, one may be missing.
            missing = max(limits.max_unavailable, 1 if limits.max_surge in (0, "0%") else 0)
            assert sum(r.ready for r in replicas) >= min(ready_before, wanted - missing)
        replicas += [Replica(f"s{step_number}.{i}", "new", False, 0) for i in range(step.create)]
        if step == Step() and all(r.ready for r in replicas):
            break
        replicas = [Replica(r.name, r.template, True, r.age) for r in replicas]
    assert sorted(r.template for r in replicas) == ["new"] * wanted
