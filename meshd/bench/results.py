"""What a benchmark found: the report's JSON schema, and what is computed from rounds. Pure.

The JSON is these structs, field by field (docs/bench-report.md). Every field is always present; a figure
that was not taken is null, and ``not_measured`` says why.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

SCHEMA = 1
"""Grows when a field changes its meaning or goes; a new field does not change it."""

Scenario = Literal["direct", "sidecar", "node-proxy", "node-proxy-sockmap", "meshd-slow", "meshd-fast"]
SCENARIOS: tuple[Scenario, ...] = get_args(Scenario)
Placement = Literal["same-node", "two-nodes"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)
Protocol = Literal["http1", "http1-close", "h2", "grpc", "grpc-stream"]
"""http1: HTTP/1.1 keep-alive. http1-close: a new connection for each request. h2: HTTP/2 in clear text. grpc:
unary calls. grpc-stream: messages to and fro on open streams; a message's way there and back is a request."""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
Party = Literal["client", "app", "proxy", "softirq"]
"""Who used CPU time. proxy: all processes of the mesh on the nodes. softirq: the kernel's, of no process."""
PARTIES: tuple[Party, ...] = get_args(Party)
Figure = Literal["rps", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "cpu_us_per_request"]
FIGURES: tuple[Figure, ...] = get_args(Figure)
HIGHER_IS_BETTER: frozenset[Figure] = frozenset({"rps"})

BASES: tuple[Scenario, ...] = ("direct", "sidecar")
"""What the others are compared with; the second with the first, too."""
_COMPARED: tuple[Figure, ...] = ("rps", "p50_us", "p99_us", "p999_us", "cpu_us_per_request")

NOISY_STEAL_PERCENT = 3.0
"""A round in which the hypervisor took more than this share of the CPUs' time is marked as noisy."""

_PAIR = re.compile(rb"\[\n\s*([-+.\deE]+),\n\s*([-+.\deE]+)\n\s*\]")
"""A string of JSON holds no newline, so this is in none."""

Range = tuple[float, float]
"""Least and most."""


class ResultsError(Exception):
    """A results file cannot be read; the message says what is wrong with it."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was measured."""

    kernel: str
    distribution: str
    cpu_model: str
    cpus: int
    memory_mb: int
    versions: dict[str, str]
    """By name: meshd, envoy, wrk, nginx, python, …"""
    cluster: str = ""
    """The Kubernetes cluster's version and nodes; empty: this machine, in the lab."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How it was measured."""

    command: str
    """The command line that repeats it."""
    rounds: int
    duration_s: float
    """Of one round of one case."""
    warm_up_s: float
    quick: bool = False
    cpu_placement: dict[str, str] = {}
    """Party to the CPUs that it was pinned to."""
    config: dict[str, str] = {}
    """Whatever else was set, in words: "envoy": "--concurrency 1, no access log, no TLS"."""
    not_covered: tuple[str, ...] = ()
    """What the report does not measure at all, a sentence each."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One load on one scenario."""

    scenario: Scenario
    placement: Placement
    connections: int
    """What is out at a time. With HTTP/2 and gRPC: streams, all of one connection."""
    body_bytes: int
    """Of each response; of a gRPC message, without its prefix."""
    protocol: Protocol
    route: bool
    """Whether an HTTPRoute that matches on path, header and weight decides; else the Service alone."""
    rate: float | None = None
    """Open loop: requests a second that were asked for. null: closed loop."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one case. Latencies in microseconds; at a rate they count from when a request was due."""

    round: int
    """From 1 on. Runs of the same number were made one after the other."""
    rps: float | None = None
    """Answers a second that were right."""
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None
    cpu_us_per_request: float | None = None
    """Of all parties together."""
    cpu_by_party: dict[Party, float] = {}
    """CPU microseconds a request."""
    carried_percent: float | None = None
    """Of the requests, what the kernel carried without a proxy; null where there is no meshd, and over
    HTTP/2, of which it carries whole connections."""
    errors: int = 0
    """Requests without the right answer. A round that has any is in no median and no ratio."""
    steal_percent: float = 0.0
    """CPU time that the hypervisor took, of all (/proc/stat)."""
    noisy: bool = False
    """steal_percent was above NOISY_STEAL_PERCENT. It is marked, and counts: a median resists it."""

    def figure(self, name: Figure) -> float | None:
        """One figure by its name."""
        value: float | None = getattr(self, name)
        return value


class Row(Case, frozen=True, kw_only=True):
    """A case's figures: medians over its rounds without errors."""

    rps: float | None = None
    p50_us: float | None = None
    p90_us: float | None = None
    p99_us: float | None = None
    p999_us: float | None = None
    max_us: float | None = None
    cpu_us_per_request: float | None = None
    cpu_by_party: dict[Party, float] = {}
    carried_percent: float | None = None
    mesh_rss_mb: float | None = None
    """Resident memory of all processes of the mesh after the last round; 0 without a mesh."""
    errors: int = 0
    """Of all rounds."""
    rounds: tuple[Round, ...] = ()
    spread: dict[Figure, Range] = {}
    """Least and most of the rounds that count."""
    histogram: tuple[tuple[float, float], ...] = ()
    """The latency distribution of rounds that count: (quantile from 0 to 1, microseconds), both rising."""
    not_measured: str = ""
    """Why there are no figures; empty: there are."""

    def figure(self, name: Figure) -> float | None:
        """One figure by its name."""
        value: float | None = getattr(self, name)
        return value

    @property
    def case(self) -> Case:
        """What was run."""
        return Case(**{name: getattr(self, name) for name in Case.__struct_fields__})


class Ratio(Case, frozen=True, kw_only=True):
    """A figure of one scenario in proportion to another's under the same load."""

    to: Scenario
    figure: Figure
    value: float
    """The median of the ratios within a round, so that the machine's drift cancels."""
    spread: Range
    rounds: int
    """How many it is the median of."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the mesh holds resident with so many pods on a node."""

    scenario: Scenario
    pods: int
    rss_mb: float | None = None
    pss_mb: float | None = None
    """With memory that several processes share (a hundred Envoys have one binary) divided among them."""
    not_measured: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run of the benchmark found."""

    schema: int = SCHEMA
    date: str
    """When it began: ISO 8601, UTC, to the second."""
    partial: bool
    """It was ended early; rows are missing, or have fewer rounds than ``settings`` says."""
    machine: Machine
    settings: Settings
    results: tuple[Row, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    memory: tuple[Memory, ...] = ()


def row(
    case: Case,
    rounds: Sequence[Round],
    *,
    mesh_rss_mb: float | None = None,
    histogram: Sequence[tuple[float, float]] = (),
) -> Row:
    """A case's row from its rounds. Without a round that counts it is a row that was not measured."""
    errors = sum(found.errors for found in rounds)
    counted = _counted(rounds)
    if not counted:
        reason = f"{errors} requests failed, in every round" if rounds else "no round was finished"
        return replace(not_measured(case, reason), errors=errors, rounds=tuple(rounds))
    carried = [found.carried_percent for found in counted if found.carried_percent is not None]
    values = {name: [v for r in counted if (v := r.figure(name)) is not None] for name in FIGURES}
    return replace(
        not_measured(case, ""),
        **{name: statistics.median(found) for name, found in values.items() if found},
        cpu_by_party=_medians_by_party(counted),
        carried_percent=statistics.median(carried) if carried else None,
        mesh_rss_mb=mesh_rss_mb,
        errors=errors,
        rounds=tuple(rounds),
        spread={name: (min(found), max(found)) for name, found in values.items() if found},
        histogram=tuple(histogram),
    )


def not_measured(case: Case, reason: str) -> Row:
    """A row that says why it has no figures."""
    return Row(**{name: getattr(case, name) for name in Case.__struct_fields__}, not_measured=reason)


def ratios(rows: Iterable[Row]) -> tuple[Ratio, ...]:
    """Each scenario to direct and to sidecar, load by load, for every figure that both have."""
    measured = {found.case: found for found in rows if not found.not_measured}
    return tuple(found for ours in measured.values() for found in _ratios_of(ours, measured))


def with_scenario(case: Case, scenario: Scenario) -> Case:
    """The same load on another scenario."""
    return replace(case, scenario=scenario)


def encode(report: Report) -> bytes:
    """The report's JSON, indented, but for pairs of numbers, with a newline at its end."""
    return _PAIR.sub(rb"[\1, \2]", msgspec.json.format(msgspec.json.encode(report), indent=2)) + b"\n"


def decode(data: bytes) -> Report:
    """The report of a JSON text. Raises ResultsError."""
    try:
        schema = msgspec.json.decode(data, type=_Version).schema
        if schema != SCHEMA:
            raise ResultsError(f"its schema is {schema}; this meshd reads {SCHEMA}")
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError as error:
        raise ResultsError(f"it is not a report of meshd bench: {error}") from error


class _Version(msgspec.Struct, frozen=True):
    schema: int


def _counted(rounds: Iterable[Round]) -> list[Round]:
    return [found for found in rounds if not found.errors]


def _medians_by_party(rounds: Sequence[Round]) -> dict[Party, float]:
    found: dict[Party, list[float]] = {}
    for one in rounds:
        for party, used in one.cpu_by_party.items():
            found.setdefault(party, []).append(used)
    return {party: statistics.median(found[party]) for party in PARTIES if party in found}


def _ratios_of(ours: Row, measured: Mapping[Case, Row]) -> Iterator[Ratio]:
    bases = BASES[: BASES.index(ours.scenario)] if ours.scenario in BASES else BASES
    for base in bases:
        theirs = measured.get(with_scenario(ours.case, base))
        if theirs is None:
            continue
        for name in _COMPARED:
            if name == "rps" and ours.rate is not None:
                continue  # both were asked for the same
            found = _within_rounds(ours.rounds, theirs.rounds, name)
            if found:
                yield Ratio(
                    **{field: getattr(ours, field) for field in Case.__struct_fields__},
                    to=base,
                    figure=name,
                    value=statistics.median(found),
                    spread=(min(found), max(found)),
                    rounds=len(found),
                )


def _within_rounds(ours: Iterable[Round], theirs: Iterable[Round], name: Figure) -> list[float]:
    """The ratio of each round that both have finished without an error."""
    bases = {found.round: found.figure(name) for found in _counted(theirs)}
    pairs = ((found.figure(name), bases.get(found.round)) for found in _counted(ours))
    return [one / base for one, base in pairs if one is not None and base]
