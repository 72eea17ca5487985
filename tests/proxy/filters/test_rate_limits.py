"""Token buckets: the arithmetic against a bucket that is counted out, and which buckets a request needs."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from meshd.model.request_policies import RateLimit, TokenBucket
from meshd.model.routes import DirectResponse, Route, VirtualHost
from proxy.filters.chain import filters_of
from proxy.filters.rate_limits import RateLimits
from proxy.filters.token_bucket import Rate, rate, take


@given(
    st.integers(1, 1000),
    st.integers(0, 50),
    st.lists(st.integers(0, 5000), max_size=200),
)
def test_the_number_is_as_good_as_a_count(spacing: int, burst: int, pauses: list[int]) -> None:
    limit = Rate(spacing, spacing * burst)
    tokens = Fraction(burst)
    full_at = 0
    now = 10**9
    for pause in pauses:
        now += pause
        tokens = min(Fraction(burst), tokens + Fraction(pause, spacing))
        later = take(limit, full_at, now)
        assert (later is not None) is (tokens >= 1)
        if later is not None:
            tokens -= 1
            full_at = later


def test_rates() -> None:
    assert rate(TokenBucket(tokens=100, interval=1.0, burst=5)) == Rate(10_000_000, 50_000_000)
    assert rate(TokenBucket(tokens=1, interval=60.0, burst=1)) == Rate(60 * 10**9, 60 * 10**9)
    assert rate(TokenBucket(tokens=10**12, interval=1.0, burst=1)) == Rate(1, 1)


class Buckets:
    """Those that have tokens left, by name; the others are known by their absence."""

    def __init__(self, *full: bytes) -> None:
        self.full = set(full)
        self.asked: list[bytes] = []

    def take(self, name: bytes, rate: Rate) -> bool:
        self.asked.append(name)
        return name in self.full


def names(limit: RateLimit, client: bytes = b"10.1.0.7", *owner: str) -> list[bytes]:
    """The buckets that a request takes a token from."""
    everything = _Everything()
    assert RateLimits(limit, *(owner or ("config", "host"))).allow(client, everything.take)
    return everything.asked


class _Everything(Buckets):
    def take(self, name: bytes, rate: Rate) -> bool:
        self.asked.append(name)
        return True


A, B = TokenBucket(tokens=10, interval=1.0, burst=10), TokenBucket(tokens=10, interval=1.0, burst=11)


def test_who_is_over_its_own_limit_takes_nothing_from_the_others() -> None:
    limit = RateLimit(all=A, each_client=B)
    each, together = names(limit)
    limits = RateLimits(limit, "config", "host")
    for full, allowed, asked in (
        ((each, together), True, [each, together]),
        ((together,), False, [each]),
        ((each,), False, [each, together]),
    ):
        buckets = Buckets(*full)
        assert limits.allow(b"10.1.0.7", buckets.take) is allowed
        assert buckets.asked == asked


def test_a_bucket_is_named_by_its_owner_its_numbers_and_its_client() -> None:
    (one,) = names(RateLimit(each_client=A))
    assert names(RateLimit(each_client=A)) == [one]
    assert len(one) == 8
    others = (
        names(RateLimit(each_client=B)),
        names(RateLimit(each_client=A), b"10.1.0.8"),
        names(RateLimit(each_client=A), b"10.1.0.7", "config", "another"),
        names(RateLimit(each_client=A), b"10.1.0.7", "con", "fighost"),
        names(RateLimit(all=A)),
    )
    assert len({one, *(name for (name,) in others)}) == 1 + len(others)
    assert names(RateLimit(all=A)) == names(RateLimit(all=A), b"10.1.0.8")


def _buckets(host: VirtualHost, route: Route) -> list[bytes]:
    filters = filters_of("config", host, route)
    if filters is None or filters.limits is None:
        return []
    asked = _Everything()
    assert filters.limits.allow(b"", asked.take)
    return asked.asked


def test_a_routes_limit_takes_the_place_of_its_virtual_hosts() -> None:
    answer = DirectResponse(status=200)
    plain, other = Route(name="a", action=answer), Route(name="b", action=answer)
    limited = Route(name="c", action=answer, rate_limit=RateLimit(all=A))
    unlimited = Route(name="d", action=answer, rate_limit=RateLimit())
    host = VirtualHost(name="host", routes=(plain, other, limited), rate_limit=RateLimit(all=A))
    assert _buckets(host, plain) == _buckets(host, other) != _buckets(host, limited)
    assert _buckets(host, unlimited) == []
    assert _buckets(VirtualHost(name="host"), plain) == []
