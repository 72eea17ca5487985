"""What a node wants of services, whatever happens in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.agent.demand import Demand
from meshd.xds.interest import Want

UNUSED_AFTER, KEPT_FOR = 10.0, 3.0
NAMES = st.sampled_from("abc")


@pytest.fixture
def demand() -> Demand:
    return Demand(UNUSED_AFTER, KEPT_FOR)


def test_from_the_first_call_to_the_last(demand: Demand) -> None:
    assert demand.ask("a", 0.0) == {"a": Want.USED}
    assert demand.ask("a", 0.5) == {}
    assert list(demand.asked) == ["a"]
    assert demand.in_force(["a", "b"], 1.0) == [1.0]
    assert list(demand.asked) == []
    assert demand.used == frozenset("a")
    assert demand.in_force(["a"], 2.0) == []
    demand.seen({"a": 4.0, "b": 5.0})
    assert demand.due(13.9) == frozenset()
    assert demand.due(14.0) == frozenset("a")
    assert demand.pass_on((), 14.0) == {"a": Want.KEPT}
    assert demand.used == frozenset()
    assert demand.pass_on((), 16.9) == {}
    assert demand.pass_on((), 17.0) == {"a": Want.KNOWN}
    assert demand.due(1000.0) == frozenset()


def test_who_is_connected_uses_it(demand: Demand) -> None:
    demand.restore("a", 0.0)
    assert demand.pass_on("a", 10.0) == {}
    assert demand.pass_on((), 19.9) == {}
    assert demand.pass_on((), 20.0) == {"a": Want.KEPT}
    # A connection that came just before: what it needs has been kept, and is in use again.
    assert demand.pass_on("a", 23.0) == {"a": Want.USED}
    assert demand.used == frozenset("a")


def test_who_comes_back_soon_need_not_wait_for_the_control_plane(demand: Demand) -> None:
    demand.restore("a", 0.0)
    demand.pass_on((), 10.0)
    assert demand.ask("a", 11.0) == {"a": Want.USED}
    assert demand.in_force(["a"], 11.5) == [0.5]


def test_what_never_comes_is_given_up(demand: Demand) -> None:
    demand.ask("a", 0.0)
    assert demand.pass_on("a", 10.0) == {}, "a connection waits for it"
    assert list(demand.asked) == ["a"]
    assert demand.pass_on((), 19.9) == {}
    assert demand.pass_on((), 20.0) == {"a": Want.KNOWN}
    assert list(demand.asked) == []


@dataclass
class World:
    """The truth: what was said to be wanted, and who uses what."""

    wants: dict[str, Want] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    """When a service was asked for, restored, came into force or was called last."""

    def take(self, wants: dict[str, Want]) -> None:
        for name, want in wants.items():
            assert self.wants.get(name, Want.KNOWN) is not want, "no news"
        self.wants.update(wants)


_EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), NAMES),
        st.tuples(st.just("in force"), st.sets(NAMES)),
        st.tuples(st.just("called"), NAMES),
        st.tuples(st.just("look"), st.sets(NAMES)),
        st.tuples(st.just("pass"), st.floats(0.1, 12.0)),
    ),
    max_size=40,
)


@given(st.sets(NAMES), _EVENTS)
def test_what_is_used_is_wanted_and_what_is_not_goes(kept: set[str], events: list[tuple[str, Any]]) -> None:
    demand, world, now = Demand(UNUSED_AFTER, KEPT_FOR), World(), 100.0
    world.take(demand.restore(sorted(kept), now))
    world.used.update(dict.fromkeys(kept, now))
    for what, detail in events:
        if what == "pass":
            now += detail
        elif what == "ask":
            world.take(demand.ask(detail, now))
            world.used[detail] = now
            assert world.wants[detail] is Want.USED
        elif what == "in force":
            waited = demand.asked
            took = demand.in_force(detail, now)
            assert len(took) == len(set(waited) & detail)
            world.used.update(dict.fromkeys(set(waited) & detail, now))
        elif what == "called":
            demand.seen({detail: now})
            if detail in demand.used:
                world.used[detail] = now
        else:
            before, connected = dict(world.wants), demand.due(now) & detail
            world.take(demand.pass_on(detail, now))
            world.used.update(dict.fromkeys(connected, now))
            for name in [n for n, w in before.items() if w is Want.USED and world.wants[n] is not w]:
                assert name not in detail, "somebody is connected to it"
                assert now - world.used[name] >= UNUSED_AFTER
        assert demand.used | set(demand.asked) == {n for n, w in world.wants.items() if w is Want.USED}
    # Nobody calls any more: after both times nothing is left.
    for patience in (UNUSED_AFTER, KEPT_FOR, UNUSED_AFTER, KEPT_FOR):
        now += patience
        world.take(demand.pass_on((), now))
    assert set(world.wants.values()) <= {Want.KNOWN}
    assert demand.due(now + 1000) == frozenset()
