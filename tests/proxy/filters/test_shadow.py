"""Which clusters get a copy of a request, and what the copy's Host says."""

from __future__ import annotations

import pytest

from meshd.model.request_policies import Mirror
from proxy.filters.shadow import drawn, shadow_fields


def test_each_mirror_is_drawn_for_itself() -> None:
    mirrors = (Mirror(cluster="all"), Mirror(cluster="half", share=500_000), Mirror(cluster="none", share=0))
    for draws, clusters in (
        ((0.999_999, 0.499_999, 0.0), ["all", "half"]),
        ((0.0, 0.5, 0.0), ["all"]),
    ):
        random = iter(draws)
        assert drawn(mirrors, lambda: next(random)) == clusters  # noqa: B023 - called before the next round


@pytest.mark.parametrize(
    ("host", "shadow"),
    [
        (b"web", b"web-shadow"),
        (b"web:81", b"web-shadow:81"),
        (b"[fd00::1]", b"[fd00::1]-shadow"),
        (b"[fd00::1]:81", b"[fd00::1]-shadow:81"),
        (b"", b"-shadow"),
    ],
)
def test_the_host_says_that_it_is_a_copy(host: bytes, shadow: bytes) -> None:
    fields = [(b"X-A", b"1"), (b"HOST", host), (b"x-host", host)]
    assert shadow_fields(fields) == [(b"X-A", b"1"), (b"HOST", shadow), (b"x-host", host)]
    assert fields[1] == (b"HOST", host)
