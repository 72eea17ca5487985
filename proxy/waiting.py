"""Connections to services that this worker knows nothing of yet: they wait while the agent sees to it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from meshd import log
from meshd.model.listeners import Listener
from meshd.model.listeners import Protocol as Speaks
from proxy.in_force import ConfigInForce, ListenerState, unavailable
from proxy.telemetry.stats import Counters

_logger = logging.getLogger("meshd.proxy.waiting")

WAIT_SECONDS = 5.0
"""For a service's config, then the connection is refused (Envoy's on-demand CDS: its timeout of 5 s)."""
MAX_WAITING = 4096
"""Connections of a worker; beyond: reset."""


class Wanted(NamedTuple):
    """What a connection waits for."""

    address: str
    """The VIP, in its canonical text form."""
    port: int
    namespace: str
    """The caller's."""


class Connection(Protocol):
    """A connection that waits."""

    @property
    def caller(self) -> object:
        """Whose it is."""

    def go_on(self, state: ListenerState) -> None:
        """What was waited for is here."""

    def give_up(self) -> None:
        """It did not come, and there is nobody to say so: RST."""


@dataclass(slots=True)
class _Group:
    """Those that wait for the same."""

    connections: dict[Connection, float] = field(default_factory=dict)
    """In the order of their coming, with the time by which each is refused."""
    listener: Listener | None = None
    """The service, once the agent has said which it is."""


class Waiting:
    """One worker's. ``check`` is to be called from time to time."""

    def __init__(self, config: ConfigInForce, counters: Counters, clock: Callable[[], float]) -> None:
        """``clock``: the loop's."""
        self._config = config
        self._counters = counters
        self._clock = clock
        self._groups: defaultdict[Wanted, _Group] = defaultdict(_Group)
        self._count = 0
        self.ask: Callable[[Wanted], None] = lambda wanted: None
        """Tells the agent, if there is one."""

    def __len__(self) -> int:
        return self._count

    def add(self, wanted: Wanted, connection: Connection) -> bool:
        """Let a connection wait. False: too many do."""
        if self._count >= MAX_WAITING:
            self._counters.add("demand_overflows_total")
            return False
        new = wanted not in self._groups
        self._groups[wanted].connections[connection] = self._clock() + WAIT_SECONDS
        self._count += 1
        self._counters.add("demand_connections_total")
        if new:
            self.ask(wanted)
        return True

    def remove(self, wanted: Wanted, connection: Connection) -> None:
        """Its client is gone."""
        group = self._groups.get(wanted)
        if group is not None and group.connections.pop(connection, None) is not None:
            self._count -= 1
            if not group.connections:
                del self._groups[wanted]

    def drop(self, caller: object) -> None:
        """A caller is gone, and with it what it waits for."""
        for wanted, group in tuple(self._groups.items()):
            for connection in [each for each in group.connections if each.caller is caller]:
                self.remove(wanted, connection)
                connection.give_up()

    def has(self, caller: object) -> bool:
        """Whether a connection of a caller's waits."""
        return any(each.caller is caller for group in self._groups.values() for each in group.connections)

    def ask_again(self) -> None:
        """There is another agent, which knows of none."""
        for wanted in self._groups:
            self.ask(wanted)

    def known(self, address: str, port: int, listener: Listener | None) -> None:
        """The agent says which service is at an address. None: there is none, so nothing is waited for."""
        for wanted in [each for each in self._groups if each[:2] == (address, port)]:
            if listener is None:
                self._refuse(wanted, "there is no service at this address", list(self._take(wanted)))
            else:
                self._groups[wanted].listener = listener

    def config_changed(self) -> None:
        """Let those go on whose service is in force now."""
        for wanted in tuple(self._groups):
            state = self._config.listener_at(*wanted)
            if state is not None:
                for connection in self._take(wanted):
                    connection.go_on(state)

    def check(self, now: float) -> None:
        """Refuse those that have waited for too long: by ``now`` of the clock."""
        for wanted, group in tuple(self._groups.items()):
            late = [each for each, deadline in group.connections.items() if deadline <= now]
            for connection in late:
                self.remove(wanted, connection)
            if late:
                self._counters.add("demand_timeouts_total", len(late))
                reason = f"its config did not come within {WAIT_SECONDS:g} s"
                self._refuse(wanted, reason, late, group.listener)

    def _take(self, wanted: Wanted) -> tuple[Connection, ...]:
        group = self._groups.pop(wanted)
        self._count -= len(group.connections)
        return tuple(group.connections)

    def _refuse(
        self, wanted: Wanted, reason: str, connections: list[Connection], listener: Listener | None = None
    ) -> None:
        log.event(
            _logger,
            logging.WARNING,
            "connections refused",
            service=listener.name if listener else f"{wanted.address} port {wanted.port}",
            callers=wanted.namespace,
            connections=len(connections),
            reason=reason,
        )
        for connection in connections:
            if listener is not None and listener.protocol is Speaks.HTTP:
                connection.go_on(unavailable(listener))
            else:
                connection.give_up()
