"""Hypothesis strategies for what everything is made of."""

from __future__ import annotations

import string
from typing import TypeVar

from hypothesis import strategies as st

from meshd.model.request_policies import StringMatch

T = TypeVar("T")

names = st.text(string.ascii_lowercase + string.digits + "-/:.", min_size=1, max_size=30)
tokens = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=12).filter(
    lambda token: token != "host"
)
values = st.text(string.ascii_letters + string.digits + " %$\\;=,()", min_size=1, max_size=20)
seconds = st.integers(0, 10_000_000).map(lambda ms: ms / 1000)
some_seconds = st.integers(1, 10_000_000).map(lambda ms: ms / 1000)
regexes = st.sampled_from(["/v[0-9]+/.*", ".*", "/a|/b", r"\d+", "x{2,3}"])
ports = st.integers(1, 65535)


def tuples(items: st.SearchStrategy[T], max_size: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=max_size).map(tuple)


string_matches = st.one_of(
    st.builds(StringMatch, name=tokens, value=values),
    st.builds(StringMatch, name=tokens, value=regexes, regex=st.just(True)),
)
