"""Which services a node's workloads use, from when to when. Pure: told what happens, it says what to want.

A service is *known* (nobody uses it), *asked* for (a connection waits for what decides on it), *used* (that
is in force) or *resting* (not used for long: out of force, but kept for a while, so that a connection that
came in between meets no half of it, and who comes back soon need not wait).
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from meshd.xds.interest import Want

Wants = dict[str, Want]
"""What is wanted of services from now on, by name: of those for which it is something else than before."""


class Phase(enum.Enum):
    """Where a service is that is more than known."""

    ASKED = "asked"
    USED = "used"
    RESTING = "resting"


@dataclass(slots=True)
class _Service:
    phase: Phase
    since: float
    """RESTING: when it began to. Else: its last use that is known of."""
    asked: float = 0.0
    """When it was asked for first, where it is ASKED."""


class Demand:
    """One node's. All times are of one clock, in seconds."""

    def __init__(self, unused_after: float, kept_for: float) -> None:
        """``unused_after`` its last use a service rests, ``kept_for`` so long; then it is only known."""
        self._unused_after = unused_after
        self._kept_for = kept_for
        self._services: dict[str, _Service] = {}

    def restore(self, names: Iterable[str], now: float) -> Wants:
        """An earlier agent had these in use."""
        names = list(names)
        self._services.update((name, _Service(Phase.USED, now)) for name in names)
        return dict.fromkeys(names, Want.USED)

    def ask(self, name: str, now: float) -> Wants:
        """A connection, or a person, needs a service."""
        service = self._services.get(name)
        if service is not None and service.phase is not Phase.RESTING:
            service.since = now
            return {}
        self._services[name] = _Service(Phase.ASKED, now, now)
        return {name: Want.USED}

    def in_force(self, names: Collection[str], now: float) -> list[float]:
        """These services are in force. How long it took, of each of them that was asked for."""
        took = []
        for service in (self._services[name] for name in self.asked if name in names):
            took.append(now - service.asked)
            service.phase, service.since = Phase.USED, now
        return took

    def seen(self, uses: Mapping[str, float]) -> None:
        """When services were used last; of those that are not in use, nothing."""
        for name, when in uses.items():
            service = self._services.get(name)
            if service is not None and service.phase is Phase.USED:
                service.since = max(service.since, when)

    def due(self, now: float) -> frozenset[str]:
        """The services that ``pass_on`` would do something about, were nobody connected to them."""
        return frozenset(name for name, service in self._services.items() if self._is_due(service, now))

    def pass_on(self, connected: Collection[str], now: float) -> Wants:
        """Let those that are due rest, or go; not those that somebody is ``connected`` to."""
        wants: Wants = {}
        for name in self.due(now):
            service = self._services[name]
            if name in connected:
                if service.phase is Phase.RESTING:
                    wants[name] = Want.USED
                    service.phase = Phase.USED
                service.since = now
            elif service.phase is Phase.USED:
                wants[name] = Want.KEPT
                service.phase, service.since = Phase.RESTING, now
            else:
                wants[name] = Want.KNOWN
                del self._services[name]
        return wants

    @property
    def asked(self) -> tuple[str, ...]:
        """The services that are waited for."""
        return tuple(name for name, service in self._services.items() if service.phase is Phase.ASKED)

    @property
    def used(self) -> frozenset[str]:
        """The services that are in use."""
        return frozenset(name for name, each in self._services.items() if each.phase is Phase.USED)

    def _is_due(self, service: _Service, now: float) -> bool:
        patience = self._kept_for if service.phase is Phase.RESTING else self._unused_after
        return now - service.since >= patience
