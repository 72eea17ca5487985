"""A report of ``meshd bench`` with plausible figures, made without measuring: the same at every call."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from meshd.bench.plan import Load, standard_loads
from meshd.bench.results import (
    PLACEMENTS,
    SCENARIOS,
    Case,
    Machine,
    Memory,
    Party,
    Placement,
    Protocol,
    Report,
    Round,
    Row,
    Scenario,
    Settings,
    not_measured,
    ratios,
    row,
)

PER_REQUEST_US: dict[Scenario, float] = {
    "direct": 6.8,
    "sidecar": 102.0,
    "node-proxy": 45.0,
    "node-proxy-sockmap": 56.0,
    "meshd-slow": 28.0,
    "meshd-fast": 4.1,
}
"""Of the bottleneck, at 64 connections and small bodies."""
LONE_US: dict[Scenario, float] = {
    "direct": 42.0,
    "sidecar": 463.0,
    "node-proxy": 243.0,
    "node-proxy-sockmap": 220.0,
    "meshd-slow": 141.0,
    "meshd-fast": 29.0,
}
TAIL: dict[Scenario, float] = {
    "direct": 1.0,
    "sidecar": 2.6,
    "node-proxy": 2.2,
    "node-proxy-sockmap": 2.4,
    "meshd-slow": 1.8,
    "meshd-fast": 1.1,
}
MESH_MB: dict[Scenario, tuple[float, float]] = {
    "direct": (0.0, 0.0),
    "sidecar": (0.0, 67.0),
    "node-proxy": (67.0, 0.1),
    "node-proxy-sockmap": (83.0, 0.1),
    "meshd-slow": (104.0, 0.2),
    "meshd-fast": (112.0, 0.2),
}
"""A node's share and a pod's."""
WOBBLE = (1.0, 0.96, 1.05, 0.98, 1.02)

MACHINE = Machine(
    kernel="6.18.0",
    distribution="Debian GNU/Linux 12 (bookworm)",
    cpu_model="Example CPU 3.1 GHz",
    cpus=2,
    memory_mb=24_064,
    versions={"meshd": "0.1.0", "envoy": "1.40.0", "wrk": "4.1.0", "nginx": "1.22.1", "python": "3.11.2"},
)
SETTINGS = Settings(
    command="meshd bench --rounds 4 --duration 5",
    rounds=4,
    duration_s=5.0,
    warm_up_s=1.0,
    cpu_placement={"client, client's Envoy, meshd's worker": "CPU 0", "server app, server's Envoy": "CPU 1"},
    config={"envoy": "--concurrency 1, no access log, no TLS"},
    not_covered=("TLS: meshd has none yet.",),
)


def one_round(case: Case, number: int, wobble: float) -> Round:
    """What a round could have found."""
    scenario = case.scenario
    copied = case.body_bytes / 1400.0 * (1.6 if scenario in {"sidecar", "node-proxy"} else 0.35)
    far = 2.4 if case.placement == "two-nodes" and scenario != "direct" else 1.2
    handshake = 38.0 if case.protocol == "http1-close" else 0.0
    busy = (PER_REQUEST_US[scenario] * far + copied + handshake) / wobble
    lone = LONE_US[scenario] * far + copied + handshake
    closed = min(1e6 / busy, case.connections * 1e6 / lone)
    rps = min(closed, case.rate) if case.rate else closed
    load = min(case.rate / closed, 3.0) if case.rate else 0.9
    p50 = lone * (1 + load) if case.rate else max(case.connections * 1e6 / closed, lone)
    tail = TAIL[scenario] * (2_000.0 if load > 1 else 1 + load * load)
    parties: dict[Party, float] = {"client": 2.1, "app": 3.0 + copied / 2, "softirq": 0.9 * far}
    if scenario != "direct":
        parties["proxy"] = 0.2 if scenario == "meshd-fast" else 0.9 * PER_REQUEST_US[scenario]
    carried: dict[Scenario, float] = {"meshd-slow": 0.0, "meshd-fast": 99.98}
    steal = 4.2 if number == 3 else 0.4
    return Round(
        round=number,
        rps=rps,
        p50_us=p50 / wobble,
        p90_us=p50 * 1.3 / wobble,
        p99_us=p50 * (1.3 + 0.5 * tail) / wobble,
        p999_us=p50 * (1.6 + 1.2 * tail) / wobble,
        max_us=p50 * (4 + 5 * tail) / wobble,
        cpu_us_per_request=sum(parties.values()),
        cpu_by_party=parties,
        carried_percent=carried.get(scenario) if case.protocol.startswith("http1") else None,
        steal_percent=steal,
        noisy=steal > 3.0,
    )


def curve(found: Round) -> Iterator[tuple[float, float]]:
    """A distribution that passes through a round's percentiles."""
    assert found.p50_us
    assert found.p90_us
    assert found.p99_us
    assert found.p999_us
    assert found.max_us
    knots = [
        (0.0, 0.6 * found.p50_us),
        (0.5, found.p50_us),
        (0.9, found.p90_us),
        (0.99, found.p99_us),
        (0.999, found.p999_us),
        (0.99999, found.max_us),
    ]
    for (q0, us0), (q1, us1) in itertools.pairwise(knots):
        for step in range(8):
            yield q0 + (q1 - q0) * step / 8, us0 + (us1 - us0) * step / 8
    yield knots[-1]
    yield 1.0, found.max_us


def measured(case: Case, rounds: int = 4) -> Row:
    """A row of so many rounds."""
    found = [
        one_round(case, number + 1, WOBBLE[(number * (2 + SCENARIOS.index(case.scenario))) % 5])
        for number in range(rounds)
    ]
    node, pod = MESH_MB[case.scenario]
    return row(case, found, mesh_rss_mb=node + 2 * pod, histogram=list(curve(found[0])))


def case(
    scenario: Scenario,
    placement: Placement = "same-node",
    connections: int = 64,
    body: int = 16,
    protocol: Protocol = "http1",
    *,
    route: bool = True,
    rate: float | None = None,
) -> Case:
    """A case, by default the headline's."""
    return Case(
        scenario=scenario,
        placement=placement,
        connections=connections,
        body_bytes=body,
        protocol=protocol,
        route=route,
        rate=rate,
    )


def report(*rows: Row, partial: bool = False, memory: tuple[Memory, ...] = ()) -> Report:
    """A report of these rows."""
    return Report(
        date="2026-11-27T12:00:00Z",
        partial=partial,
        machine=MACHINE,
        settings=SETTINGS,
        results=rows,
        ratios=ratios(rows),
        memory=memory,
    )


def full() -> Report:
    """What `meshd bench` could find."""
    rows = [measured(load.case(name)) for load in standard_loads(PLACEMENTS) for name in SCENARIOS]
    streams = Load("same-node", protocol="grpc-stream", rate=1000)
    rows += [not_measured(streams.case(scenario), streams.impossible) for scenario in SCENARIOS]
    memory = tuple(
        Memory(scenario=scenario, pods=pods, rss_mb=node + pods * pod, pss_mb=0.9 * (node + pods * pod))
        for scenario, (node, pod) in MESH_MB.items()
        for pods in (1, 10, 50, 100)
        if (scenario, pods) != ("sidecar", 100)
    )
    lost = Memory(
        scenario="sidecar", pods=100, not_measured="100 Envoys need 6.7 GB; the machine has 2.1 GB free"
    )
    return report(*rows, memory=(*memory, lost))


def quick() -> Report:
    """What `meshd bench --quick` could find."""
    names: tuple[Scenario, ...] = ("direct", "sidecar", "meshd-slow", "meshd-fast")
    return report(*(measured(case(name), rounds=2) for name in names))
