"""Versions of a map that share what has not changed: each is what a dictionary would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.shared_map import Draft, SharedMap

keys = st.integers(0, 600)  # more than there are parts, so that some have several
values = st.integers(1000, 1003).map(str)
steps = st.lists(st.tuples(st.dictionaries(keys, values, max_size=6), st.sets(keys, max_size=6)), max_size=8)


@given(st.dictionaries(keys, values), steps)
def test_each_version_is_as_a_dictionary(
    entries: dict[int, str], steps: list[tuple[dict[int, str], set[int]]]
) -> None:
    plain, shared = dict(entries), SharedMap(entries)
    versions = [(plain, shared)]
    for put, removed in steps:
        plain = {key: value for key, value in (plain | put).items() if key not in removed}
        shared = shared.changed(put, removed)
        versions.append((plain, shared))
    for wanted, found in versions:  # the earlier ones are what they were, too
        assert found == wanted
        assert len(found) == len(wanted)
        assert sorted(found) == sorted(wanted)
        assert sorted(found.items()) == sorted(wanted.items())
        assert sorted(found.values()) == sorted(wanted.values())
        assert [found.get(key) for key in range(601)] == [wanted.get(key) for key in range(601)]
        assert [key in found for key in range(601)] == [key in wanted for key in range(601)]
    for before, earlier in versions:
        for after, later in versions:
            assert set(earlier.others(later)) == {
                key for key in before.keys() | after.keys() if before.get(key) is not after.get(key)
            }


@given(st.dictionaries(keys, values, min_size=1), st.data())
def test_a_draft_changes_nothing_before_it_is_done(entries: dict[int, str], data: st.DataObject) -> None:
    shared = SharedMap(entries)
    draft = Draft(shared)
    gone, taken, put = (data.draw(st.sampled_from(sorted(entries))) for _ in range(3))
    wanted = dict(entries)
    assert draft.pop(gone, "none") == wanted.pop(gone)
    assert draft.pop(taken, "none") == wanted.pop(taken, "none")
    draft[put] = wanted[put] = "new"
    assert draft == wanted
    assert shared == entries
    assert draft.done() == wanted
    assert shared == entries


def test_what_changes_nothing_is_the_very_same() -> None:
    shared = SharedMap({"a": 1})
    assert shared.changed({}, ["b"]) is shared
    assert SharedMap.of(shared) is shared


def test_a_version_of_many_shares_all_but_what_is_beside_the_change() -> None:
    entries = {str(number): object() for number in range(10_000)}
    shared = SharedMap(entries)
    later = shared.changed({"7": object()}, ["8"])
    assert set(shared.others(later)) == {"7", "8"}
    own = [new for old, new in zip(shared._parts, later._parts, strict=True) if old is not new]
    assert len(own) <= 2
    assert sum(map(len, own)) < 300  # of 10,000: some 40 in each
