"""What a benchmark runs: which loads, on which scenarios, in which order. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from meshd.bench.results import PLACEMENTS, SCENARIOS, Case, Placement, Protocol, Scenario

QUICK_SCENARIOS: tuple[Scenario, ...] = ("direct", "sidecar", "meshd-slow", "meshd-fast")
MEMORY_PODS = (1, 10, 50, 100)
MAX_CONNECTIONS, MAX_BODY, MAX_RATE = 1024, 16 * 1024 * 1024, 100_000
MAX_MESSAGE = 64 * 1024
"""Of a stream's: its way is measured, and not how many windows it needs."""
_OVER_HTTP2: tuple[Protocol, ...] = ("h2", "grpc", "grpc-stream")
_CONNECTIONS, _BODY = 16, 16
"""Of a load that does not say."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the client asks of a server, whatever is between them."""

    placement: Placement
    connections: int = _CONNECTIONS
    body_bytes: int = _BODY
    protocol: Protocol = "http1"
    route: bool = False
    rate: int | None = None
    """Requests a second; None: closed loop."""

    def case(self, scenario: Scenario) -> Case:
        """The load on a scenario."""
        return Case(
            scenario=scenario,
            placement=self.placement,
            connections=self.connections,
            body_bytes=self.body_bytes,
            protocol=self.protocol,
            route=self.route,
            rate=None if self.rate is None else float(self.rate),
        )

    def __str__(self) -> str:
        parts = [
            self.placement, f"c={self.connections}", f"{self.body_bytes} B",
            *([self.protocol] if self.protocol != "http1" else []),
            *(["route"] if self.route else []),
            *([f"{self.rate}/s"] if self.rate is not None else []),
        ]  # fmt: skip
        return " ".join(parts)

    @property
    def is_http1(self) -> bool:
        """Whether it is HTTP/1.1."""
        return self.protocol in ("http1", "http1-close")

    @property
    def asked_once(self) -> Load:
        """The load whose answers are looked at before this one is run: loads with the same have the same."""
        protocol: Protocol = "http1" if self.protocol == "http1-close" else self.protocol
        return replace(self, connections=1, protocol=protocol, rate=None)

    @property
    def impossible(self) -> str:
        """Why nobody can make this load; empty: it can be made."""
        if self.protocol != "grpc-stream":
            return ""
        if self.rate is not None:
            return "streams are measured in a closed loop only: each sends when its message is back"
        if self.body_bytes > MAX_MESSAGE:
            return f"streams are measured with messages of at most {MAX_MESSAGE >> 10} KB"
        return ""


@dataclass(frozen=True, slots=True)
class Run:
    """One load on one scenario, once."""

    round: int
    """From 1 on; 0: warm-up, not counted."""
    scenario: Scenario
    load: Load


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be measured."""

    scenarios: tuple[Scenario, ...]
    loads: tuple[Load, ...]
    rounds: int
    seconds: int
    """Of one run."""
    memory_pods: tuple[int, ...]
    quick: bool = False
    minutes: int | None = None
    """After so many nothing more is begun; None: as long as it takes."""

    def runs(self) -> Iterator[Run]:
        """In order. All scenarios of a load follow one another, each round beginning with another one; all
        loads are in every round: so a slow minute of the machine hits all alike, and an early end costs
        rounds, not loads."""
        for number in range(self.rounds + 1):
            for load in self.loads:
                if load.impossible:
                    continue
                for i in range(len(self.scenarios)):
                    yield Run(number, self.scenarios[(number + i) % len(self.scenarios)], load)

    @property
    def nodes(self) -> int:
        """How many nodes a lab needs."""
        return 2 if any(load.placement == "two-nodes" for load in self.loads) else 1

    @property
    def has_streams(self) -> bool:
        """Whether servers need one for gRPC's streams."""
        return any(load.protocol == "grpc-stream" and not load.impossible for load in self.loads)

    @property
    def bodies(self) -> tuple[int, ...]:
        """All sizes of responses, each once."""
        return tuple(sorted({load.body_bytes for load in self.loads}))


def standard_loads(placements: Sequence[Placement]) -> tuple[Load, ...]:
    """What the full report shows: not every combination, but each thing varied by itself.

    On the first placement all of it, on the others what the way between nodes may change.
    """
    return tuple(
        load for place in placements for load in (_all(place) if place == placements[0] else _across(place))
    )


def _all(place: Placement) -> Iterator[Load]:
    yield from (Load(place, connections) for connections in (1, 16, 64))
    yield from (Load(place, body_bytes=size) for size in (1024, 16 * 1024, 1024 * 1024))
    yield Load(place, protocol="http1-close")
    yield Load(place, 64, route=True)
    for protocol in _OVER_HTTP2:
        yield from (Load(place, connections, protocol=protocol) for connections in (1, 64))
    yield from (Load(place, 64, protocol=protocol, route=True) for protocol in ("h2", "grpc"))
    yield from (Load(place, 64, rate=rate) for rate in (1000, 4000, 8000, 16000))
    yield Load(place, 64, protocol="h2", rate=2000)
    yield from (Load(place, 64, protocol="grpc", rate=rate) for rate in (1000, 2000, 4000))


def _across(place: Placement) -> Iterator[Load]:
    yield from (Load(place, connections) for connections in (1, 64))
    yield from (Load(place, body_bytes=size) for size in (16 * 1024, 1024 * 1024))
    yield Load(place, protocol="http1-close")
    yield Load(place, 64, route=True)
    yield from (Load(place, 64, protocol=protocol) for protocol in _OVER_HTTP2)
    yield Load(place, 64, rate=4000)


def quick_loads(placements: Sequence[Placement]) -> tuple[Load, ...]:
    """Enough to see the order of things."""
    place = placements[0]
    return (Load(place, 1), Load(place, 64), Load(place, 64, protocol="grpc"), Load(place, 64, rate=1000))


def chosen_loads(
    placements: Sequence[Placement],
    connections: Sequence[int],
    bodies: Sequence[int],
    protocols: Sequence[Protocol],
    routes: Sequence[bool],
    rates: Sequence[int],
) -> tuple[Load, ...]:
    """Every combination of what was given; an empty sequence is the default of ``Load``."""
    return tuple(
        itertools.starmap(
            Load,
            itertools.product(
                placements,
                connections or (_CONNECTIONS,),
                bodies or (_BODY,),
                protocols or ("http1",),
                routes or (False,),
                rates or (None,),
            ),
        )
    )


def ordered(scenarios: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Each once, in the order in which reports list them."""
    return tuple(scenario for scenario in SCENARIOS if scenario in scenarios)


def ordered_placements(placements: Sequence[Placement]) -> tuple[Placement, ...]:
    """Each once, in the order in which reports list them; none given: all."""
    return tuple(one for one in PLACEMENTS if one in placements) or PLACEMENTS
