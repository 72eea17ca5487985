"""Looking at what a change has to do with comes to the same as looking at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.xds import warming
from meshd.xds.holdings import Holdings, Names
from tests.xds.example import cluster, endpoints, listener, route_config, snapshot

NAMES = st.sampled_from("abc")
SOME = st.lists(NAMES, unique=True, max_size=3).map(tuple)


@st.composite
def configs(draw: st.DrawFn) -> Snapshot:
    """Anything: what is referred to need not be there."""
    return snapshot(
        (listener(n, f"10.0.0.{i}", cluster=draw(NAMES)) for i, n in enumerate(draw(SOME))),
        (route_config(n, *draw(SOME)) for n in draw(SOME)),
        (cluster(n, draw(st.sampled_from((1.0, 2.0)))) for n in draw(SOME)),
        (endpoints(n, draw(st.sampled_from(("10.1.0.1", "10.1.0.2")))) for n in draw(SOME)),
    )


@given(st.lists(configs(), min_size=1, max_size=5))
def test_part_by_part_is_all(versions: list[Snapshot]) -> None:
    received, in_force = Holdings(), Holdings()
    last = now = Snapshot()
    held = Names.none()
    for version in versions:
        delta = difference(last, version)
        received.apply(delta)
        last = version
        names = held | Names.of(delta)
        names = received.referring(names) | in_force.referring(names)
        names = received.referred(names) | in_force.referred(names)
        current = in_force.part(names)
        warmed = warming.warm(received.part(names), current)
        change = difference(current, warmed)
        whole = difference(now, warming.warm(version, now))
        assert as_sets(change) == as_sets(whole)
        held = Names.of(difference(warmed, received.part(names)))
        in_force.apply(change)
        now = now.apply(change)


def as_sets(delta: Delta) -> dict[str, set[str]]:
    fields = (name for name in delta.__struct_fields__ if name != "generation")
    return {name: set(map(repr, getattr(delta, name))) for name in fields}
