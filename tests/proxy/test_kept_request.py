"""What is kept of a request to be sent again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.exchanges.kept_request import KeptRequest
from proxy.http1.request import Request
from proxy.upstream.outgoing import Outgoing

HEAD = Outgoing(Request(), "/", [])


_pieces = st.lists(st.tuples(st.binary(max_size=40), st.booleans()))


@given(st.integers(0, 100), st.binary(max_size=40), _pieces)
def test_it_is_all_that_came_or_nothing(limit: int, body: bytes, more: list[tuple[bytes, bool]]) -> None:
    """Whatever of it is asked for between, sent or not."""
    kept = KeptRequest(HEAD, body, limit)
    came = body
    whole = True
    for data, is_sent in more:
        kept.add(data, is_sent)
        came += data
        whole = whole and not (is_sent and len(came) > limit)
        assert kept.is_whole == whole
        if is_sent:
            assert kept.read() == (came if whole else b"")
    assert kept.read() == (came if whole else b"")


@given(st.binary(), st.lists(st.binary(min_size=1), max_size=5))
def test_without_a_limit_it_is_what_came_before_the_first_was_sent(body: bytes, unsent: list[bytes]) -> None:
    kept = KeptRequest(HEAD, body, 0)
    for data in unsent:
        kept.add(data, is_sent=False)
    assert kept.read() == body + b"".join(unsent)
    kept.add(b"more", is_sent=True)
    assert not kept.is_whole


def test_what_is_not_known_is_not_whole() -> None:
    kept = KeptRequest(None, b"", 0)
    kept.add(b"more", is_sent=False)
    assert not kept.is_whole
    assert kept.read() == b""
