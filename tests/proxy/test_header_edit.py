"""Header modifiers on raw fields; a folded edit does what its parts do one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.routes import HeaderEdit
from proxy.requests.header_edit import NO_EDIT, Edit, apply

Fields = list[tuple[bytes, bytes]]


def edited(
    raw: Fields,
    remove: tuple[str, ...] = (),
    overwrite: tuple[tuple[str, str], ...] = (),
    add: tuple[tuple[str, str], ...] = (),
) -> Fields:
    return apply(raw, Edit((HeaderEdit(remove=remove, set=overwrite, add=add),)))


def test_nothing_to_do_returns_the_fields_themselves() -> None:
    raw = [(b"A", b"1")]
    assert apply(raw, NO_EDIT) is raw
    assert not NO_EDIT


def test_remove_then_set_then_add() -> None:
    raw = [(b"Keep", b"k"), (b"X-A", b"1"), (b"x-a", b"2"), (b"X-B", b"3")]
    assert edited(raw, remove=("x-a",)) == [(b"Keep", b"k"), (b"X-B", b"3")]
    assert edited(raw, overwrite=(("x-a", "n"),)) == [(b"Keep", b"k"), (b"X-B", b"3"), (b"x-a", b"n")]
    assert edited(raw, add=(("x-b", "n"),)) == [*raw, (b"x-b", b"n")]
    assert edited(raw, remove=("x-b",), overwrite=(("x-a", "s"),), add=(("x-a", "t"), ("x-b", "u"))) == [
        (b"Keep", b"k"),
        (b"x-a", b"s"),
        (b"x-a", b"t"),
        (b"x-b", b"u"),
    ]
    assert raw[1] == (b"X-A", b"1")


def test_values_keep_their_bytes() -> None:
    assert edited([], overwrite=(("x", "é"),)) == [(b"x", "é".encode())]


def naive(raw: Fields, edits: list[HeaderEdit]) -> Fields:
    for edit in edits:
        for name in edit.remove:
            raw = [f for f in raw if f[0].lower() != name.encode()]
        for name, value in edit.set:
            raw = [f for f in raw if f[0].lower() != name.encode()] + [(name.encode(), value.encode())]
        for name, value in edit.add:
            raw = [*raw, (name.encode(), value.encode())]
    return raw


names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["1", "2", "3"])
pairs = st.lists(st.tuples(names, values), max_size=3).map(tuple)
edits = st.builds(HeaderEdit, set=pairs, add=pairs, remove=st.lists(names, max_size=2).map(tuple))
raws = st.lists(
    st.tuples(st.sampled_from([b"A", b"a", b"B", b"C", b"D"]), st.sampled_from([b"x", b"y"])), max_size=6
)


@given(raws, st.lists(edits, max_size=3))
def test_folding_changes_no_fields_value(raw: Fields, several: list[HeaderEdit]) -> None:
    def by_name(fields: Fields) -> dict[bytes, list[bytes]]:
        result: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            result.setdefault(name.lower(), []).append(value)
        return result

    assert by_name(apply(raw, Edit(several))) == by_name(naive(raw, several))


@given(st.lists(edits, max_size=3))
def test_an_answers_headers_are_edited_alike(several: list[HeaderEdit]) -> None:
    edit = Edit(several)
    text = edit.of_answer((("a", "x"), ("d", "y")))
    raw = apply([(b"a", b"x"), (b"d", b"y")], edit)
    assert [(name.encode(), value.encode()) for name, value in text] == raw


@given(edits, edits, raws)
def test_one_edit_then_another_is_both(first: HeaderEdit, second: HeaderEdit, raw: Fields) -> None:
    one, other = Edit((first,)), Edit((second,))
    both = one.then(other)
    assert apply(raw, both) == apply(apply(raw, one), other)
    answer = (("a", "1"), ("d", "2"))
    assert both.of_answer(answer) == other.of_answer(one.of_answer(answer))
