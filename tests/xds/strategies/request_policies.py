"""Hypothesis strategies for what a route has for its requests."""

from __future__ import annotations

from hypothesis import strategies as st

from meshd.model.request_policies import (
    GRPC_CONDITIONS,
    MILLION,
    Cors,
    Fault,
    HashCookie,
    HashHeader,
    HashQuery,
    HashSource,
    Mirror,
    RateLimit,
    Retry,
    SessionCookie,
    SessionHeader,
    StringMatch,
    TokenBucket,
)
from tests.xds.strategies.basic import (
    names,
    regexes,
    seconds,
    some_seconds,
    string_matches,
    tokens,
    tuples,
)

_statuses = st.integers(200, 599)
_shares = st.integers(0, MILLION)


@st.composite
def _retries(draw: st.DrawFn) -> Retry:
    backoff, more = draw(some_seconds), draw(seconds)
    reset = draw(st.booleans())
    return Retry(
        attempts=draw(st.integers(0, 5)),
        connect_failure=reset or draw(st.booleans()),
        reset=reset,
        statuses=tuple(sorted(draw(st.sets(_statuses, max_size=3)))),
        grpc_statuses=tuple(sorted(draw(st.sets(st.sampled_from(tuple(GRPC_CONDITIONS)))))),
        per_try_timeout=draw(seconds),
        backoff=backoff,
        max_backoff=round(backoff + more, 3),
        least_backoff=draw(seconds),
    )


retries = _retries() | st.builds(Retry, attempts=st.integers(0, 5))
mirrors = st.builds(Mirror, cluster=names, share=_shares)
hash_keys = st.one_of(
    st.builds(HashHeader, name=tokens),
    st.builds(HashCookie, name=tokens, path=st.sampled_from(["/", "/a"]), ttl=seconds),
    st.builds(HashQuery, name=tokens),
    st.just(HashSource()),
)
sessions = st.one_of(
    st.builds(SessionCookie, name=tokens, path=st.sampled_from(["/", "/a"]), ttl=seconds),
    st.builds(SessionHeader, name=tokens),
)
_origins = st.one_of(
    st.builds(StringMatch, name=st.just("origin"), value=st.sampled_from(["*", "https://a.example"])),
    st.builds(StringMatch, name=st.just("origin"), value=regexes, regex=st.just(True)),
)
cors = st.builds(
    Cors,
    origins=tuples(_origins),
    methods=tuples(st.sampled_from(["GET", "PUT", "*"])),
    headers=tuples(tokens),
    expose=tuples(tokens),
    max_age=st.integers(-1, 86400),
    forward_unmatched=st.booleans(),
    credentials=st.booleans(),
)
faults = st.one_of(
    st.builds(
        Fault,
        delay=some_seconds,
        delay_share=_shares,
        abort=_statuses,
        abort_share=_shares,
        headers=tuples(string_matches),
    ),
    st.builds(Fault, delay=some_seconds, delay_share=_shares, max_active=st.integers(0, 1000)),
    st.builds(Fault, abort=_statuses, abort_share=_shares),
    st.builds(
        Fault,
        delay_share=st.integers(1, MILLION),
        abort_share=_shares,
        headers=tuples(string_matches),
        by_header=st.just(True),
    ),
)
_buckets = st.builds(
    TokenBucket,
    tokens=st.integers(1, 1_000_000),
    interval=st.integers(50, 86_400_000).map(lambda ms: ms / 1000),
    burst=st.integers(1, 1_000_000),
)
rate_limits = st.one_of(
    st.builds(RateLimit, all=_buckets),
    st.builds(RateLimit, each_client=_buckets),
    st.builds(RateLimit, all=_buckets, each_client=_buckets),
)
