"""Hypothesis strategies for how a cluster's endpoints are used."""

from __future__ import annotations

from hypothesis import strategies as st

from meshd.model.cluster_policies import (
    Balancing,
    GrpcProbe,
    HealthCheck,
    HttpProbe,
    LeastRequest,
    Limits,
    Maglev,
    Outlier,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    SlowStart,
    TcpProbe,
)
from tests.xds.strategies.basic import ports, seconds, some_seconds, tokens

_slow_starts = st.builds(
    SlowStart,
    window=some_seconds,
    aggression=st.floats(0.1, 10.0),
    min_weight_percent=st.floats(0.0, 100.0),
)
_ring_sizes = st.tuples(st.integers(1, 8 * 1024 * 1024), st.integers(1, 8 * 1024 * 1024)).map(sorted)
balancing: st.SearchStrategy[Balancing] = st.one_of(
    st.builds(RoundRobin, slow_start=st.none() | _slow_starts),
    st.builds(LeastRequest, choices=st.integers(2, 9), slow_start=st.none() | _slow_starts),
    st.just(RandomEndpoint()),
    _ring_sizes.map(lambda sizes: RingHash(min_size=sizes[0], max_size=sizes[1])),
    st.builds(Maglev, table_size=st.sampled_from([2, 251, 65537, 5_000_011])),
)
_statuses = st.tuples(st.integers(100, 599), st.integers(100, 599)).map(lambda s: (min(s), max(s)))
_probes: st.SearchStrategy[HttpProbe | TcpProbe | GrpcProbe] = st.one_of(
    st.builds(
        HttpProbe,
        path=tokens.map(lambda name: f"/{name}"),
        host=st.just("") | tokens,
        statuses=st.lists(_statuses, min_size=1, max_size=3).map(tuple),
    ),
    st.just(TcpProbe()),
    st.builds(GrpcProbe, service=st.just("") | tokens, authority=st.just("") | tokens),
)
health_checks = st.builds(
    HealthCheck,
    probe=_probes,
    interval=some_seconds,
    timeout=some_seconds,
    unhealthy_after=st.integers(1, 9),
    healthy_after=st.integers(1, 9),
    port=st.just(0) | ports,
)
_counts = st.integers(0, 2**32 - 2)


@st.composite
def _outliers(draw: st.DrawFn) -> Outlier:
    ejection_time, more = draw(some_seconds), draw(seconds)
    return Outlier(
        consecutive_5xx=draw(_counts),
        consecutive_gateway=draw(_counts),
        interval=draw(some_seconds),
        ejection_time=ejection_time,
        max_ejection_time=round(ejection_time + more, 3),
        max_ejected_percent=draw(st.integers(0, 100)),
        success_rate_factor=draw(_counts),
        success_rate_hosts=draw(_counts),
        success_rate_requests=draw(_counts),
        latency_factor=draw(_counts),
    )


outliers = _outliers()
_some_limits = st.builds(Limits, connections=_counts, pending=_counts, requests=_counts, retries=_counts)
_budgets = st.builds(
    Limits,
    retry_budget_percent=st.floats(0.1, 100.0),
    retry_budget_min=_counts,
)
limits = _some_limits | _budgets
