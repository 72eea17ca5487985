from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.kube_api.reflection import BrokenError, ExpiredError, Phase, Reflection


def _object(name: str, version: int, uid: str = "u", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(version), "uid": uid}
    return {"metadata": metadata, **fields}


def _page(version: int, *items: dict[str, Any], more: str = "") -> bytes:
    metadata = {"resourceVersion": str(version), **({"continue": more} if more else {})}
    return json.dumps({"kind": "List", "metadata": metadata, "items": list(items)}).encode()


def _event(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode()


def _names(reflection: Reflection) -> dict[str, str]:
    return {name: kept.resource_version for (_, name), kept in reflection.objects.items()}


def _changes(reflection: Reflection) -> dict[str, str]:
    """By name; empty: gone."""
    found = reflection.take_changes()
    return {name: "" if kept is None else kept.resource_version for (_, name), kept in found.items()}


def _watching(*items: dict[str, Any]) -> Reflection:
    reflection = Reflection()
    reflection.page(_page(10, *items))
    return reflection


def test_a_list_in_pieces_is_in_force_when_it_is_whole() -> None:
    reflection = Reflection()
    assert not reflection.page(_page(7, _object("a", 1), more="next"))
    assert (reflection.phase, reflection.continue_token, reflection.synced) == (Phase.LISTING, "next", False)
    assert not reflection.objects
    assert reflection.page(_page(7, _object("b", 2)))
    assert _names(reflection) == {"a": "1", "b": "2"}
    assert (reflection.phase, reflection.resource_version, reflection.synced) == (Phase.WATCHING, "7", True)


def test_an_empty_first_list_is_news() -> None:
    assert Reflection().page(_page(3))
    empty = json.dumps({"metadata": {"resourceVersion": "3"}, "items": None}).encode()
    assert Reflection().page(empty)


def test_events() -> None:
    reflection = _watching(_object("a", 1), _object("b", 2))
    assert reflection.line(_event("ADDED", _object("c", 11)))
    assert reflection.line(_event("MODIFIED", _object("a", 12, spec={"x": 1})))
    assert reflection.line(_event("DELETED", _object("b", 13)))
    assert _names(reflection) == {"a": "12", "c": "11"}
    assert json.loads(reflection.objects["default", "a"].text)["spec"] == {"x": 1}
    assert reflection.resource_version == "13"


def test_changes_are_told_once_and_as_they_came_out() -> None:
    reflection = _watching(_object("a", 1), _object("b", 2), _object("c", 3))
    assert _changes(reflection) == {"a": "1", "b": "2", "c": "3"}
    reflection.line(_event("MODIFIED", _object("a", 12)))
    reflection.line(_event("MODIFIED", _object("a", 13)))
    reflection.line(_event("ADDED", _object("d", 14)))
    reflection.line(_event("DELETED", _object("d", 15)))
    reflection.line(_event("DELETED", _object("b", 16)))
    assert _changes(reflection) == {"a": "13", "b": "", "d": ""}
    assert _changes(reflection) == {}
    reflection.expired()
    reflection.page(_page(20, _object("a", 13), _object("e", 17)))
    assert _changes(reflection) == {"c": "", "e": "17"}
    reflection.forget()
    assert _changes(reflection) == {"a": "", "e": ""}
    assert (reflection.phase, reflection.synced) == (Phase.LISTING, False)


def test_what_comes_twice_is_no_change() -> None:
    reflection = _watching(_object("a", 1))
    assert not reflection.line(_event("ADDED", _object("a", 1)))
    assert reflection.line(_event("DELETED", _object("a", 12)))
    assert not reflection.line(_event("DELETED", _object("a", 12)))


def test_the_late_end_of_an_earlier_object_of_the_name() -> None:
    reflection = _watching(_object("a", 5, uid="new"))
    assert not reflection.line(_event("DELETED", _object("a", 11, uid="old")))
    assert _names(reflection) == {"a": "5"}


def test_a_bookmark_moves_the_version_only() -> None:
    reflection = _watching(_object("a", 1))
    assert not reflection.line(_event("BOOKMARK", {"metadata": {"resourceVersion": "50"}}))
    assert reflection.resource_version == "50"
    assert _names(reflection) == {"a": "1"}


def test_a_relist_leaves_what_there_is_in_force_until_it_is_whole() -> None:
    reflection = _watching(_object("a", 1), _object("b", 2))
    held = reflection.objects["default", "b"]
    with pytest.raises(ExpiredError):
        reflection.line(_event("ERROR", {"code": 410, "reason": "Expired", "message": "too old"}))
    reflection.expired()
    assert not reflection.page(_page(30, _object("c", 20), more="next"))
    assert _names(reflection) == {"a": "1", "b": "2"}
    reflection.expired()  # the token was too old as well: from the beginning
    assert reflection.page(_page(31, _object("b", 2)))
    assert _names(reflection) == {"b": "2"}
    assert reflection.objects["default", "b"] is held
    assert reflection.resource_version == "31"


def test_a_relist_that_finds_the_same_is_no_change() -> None:
    reflection = _watching(_object("a", 1))
    reflection.expired()
    assert not reflection.page(_page(99, _object("a", 1)))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"type": "ADDED"}',
        b'{"type": "ADDED", "object": {"metadata": {"name": "a"}}}',
        b'{"type": "ADDED", "object": {"metadata": {"resourceVersion": "9"}}}',
        b'{"type": "GREW", "object": {"metadata": {"name": "a", "resourceVersion": "9"}}}',
        b'{"type": "ERROR", "object": {"code": 500, "message": "etcd is gone"}}',
    ],
)
def test_what_is_no_event(line: bytes) -> None:
    reflection = _watching(_object("a", 1))
    with pytest.raises(BrokenError):
        reflection.line(line)
    assert (_names(reflection), reflection.resource_version) == ({"a": "1"}, "10")


@pytest.mark.parametrize("text", [b"", b"{}", b'{"metadata": {}, "items": []}', b'{"items": 3}', b"\xff"])
def test_what_is_no_list(text: bytes) -> None:
    with pytest.raises(BrokenError):
        Reflection().page(text)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete", "again", "relist"]))))
def test_it_holds_what_the_server_holds(steps: list[tuple[str, str]]) -> None:
    """However the news come: by events, told twice, or by a list anew."""
    version = 10
    held: dict[str, dict[str, Any]] = {}
    reflection = _watching()
    for name, what in steps:
        version += 1
        last = held.get(name)
        if what == "put":
            held[name] = _object(name, version)
            reflection.line(_event("MODIFIED" if last else "ADDED", held[name]))
        elif what == "delete" and last:
            del held[name]
            reflection.line(_event("DELETED", _object(name, version)))
        elif what == "again" and last:
            assert not reflection.line(_event("MODIFIED", last))
        elif what == "relist":
            reflection.expired()
            assert not reflection.page(_page(version, *held.values()))
        expected = {each: item["metadata"]["resourceVersion"] for each, item in held.items()}
        assert _names(reflection) == expected
