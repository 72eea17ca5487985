"""Subscription on demand: what a node's workloads use is asked for when they do, given up when they stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Protocol as Interface

import msgspec

from meshd import log
from meshd.agent.demand import Demand, Wants
from meshd.datapath.addresses import End
from meshd.model.listeners import Listener, Protocol
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.view import DemandView
from meshd.model.wire import LATENCY_BUCKETS, Known
from meshd.xds.interest import Want

_logger = logging.getLogger("meshd.agent.demand")

LOOK_SECONDS = (0.25, 30.0)
"""Bounds of the time between two looks at what is still used: else a quarter of the shorter setting."""
EXPLAIN_SECONDS = 5.0
"""For the config of a service that somebody asks about."""


class Subscriptions(Interface):
    """Where wants go: an AdsClient."""

    connected: bool
    """There is somebody who can be asked."""

    def want(self, names: Collection[str], want: Want) -> None:
        """What is wanted of listeners from now on."""

    def follow(self, namespaces: Collection[str]) -> None:
        """The namespaces of all callers."""


class Uses(Interface):
    """What the kernel saw: datapath.services.uses.ServiceUses."""

    def last(self, vips: Collection[End]) -> float:
        """When one of these was connected to last, by time.monotonic; 0: not known."""

    def connected(self) -> Collection[End]:
        """Those that a captured connection is open to."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the node subscribes."""

    everything: bool = False
    """To all services, whoever uses them."""
    unused_after: float = 600.0
    """Seconds since its last connection after which a service is out of use."""
    kept_for: float = 60.0
    """Seconds for which it is kept all the same."""


class OnDemand:
    """One node's. All its methods are called in the event loop."""

    def __init__(self, settings: Settings, subscriptions: Subscriptions, uses: Uses) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        self._uses = uses
        self._demand = Demand(settings.unused_after, settings.kept_for)
        self._listeners: dict[str, Listener] = {}
        """Of the index: as far as they go as where they are called."""
        self._by_vip: dict[End, tuple[str, ...]] = {}
        self._namespaces: frozenset[str] = frozenset()
        self._in_force = Snapshot()
        self._news = asyncio.Condition()
        """Of ``_in_force``."""
        self._took: Counter[float] = Counter()
        """Demands by the least of LATENCY_BUCKETS that they took no longer than; infinity: longer."""
        self._seconds = 0.0
        self._asked = 0

    # -- what there is -------------------------------------------------------------------------------

    def restore(self, kept: Snapshot) -> None:
        """Take up what an earlier agent had in force: it is in use."""
        self.take(kept.as_delta())
        whole = [name for name, each in kept.listeners.items() if not each.cold]
        self._follow({n for name in whole for n, config in kept.listeners[name].consumers if config})
        self._want(self._demand.restore(whole, time.monotonic()))

    def take(self, delta: Delta) -> None:
        """Listeners have come or gone, or are others."""
        for name in (*delta.removed_listeners, *(each.name for each in delta.listeners)):
            if (listener := self._listeners.pop(name, None)) is not None:
                for vip in _vips(listener):
                    left = tuple(each for each in self._by_vip.get(vip, ()) if each != name)
                    if left:
                        self._by_vip[vip] = left
                    else:
                        self._by_vip.pop(vip, None)
        for listener in delta.listeners:
            self._listeners[listener.name] = listener
            for vip in _vips(listener):
                self._by_vip[vip] = tuple(sorted((*self._by_vip.get(vip, ()), listener.name)))

    async def in_force(self, snapshot: Snapshot) -> None:
        """This snapshot is, on the whole node."""
        self._in_force = snapshot
        names = [name for name in self._demand.asked if _is_whole(snapshot, name)]
        for seconds in self._demand.in_force(names, time.monotonic()):
            self._seconds += seconds
            self._took[next((bound for bound in LATENCY_BUCKETS if seconds <= bound), float("inf"))] += 1
        async with self._news:
            self._news.notify_all()

    # -- who uses it ---------------------------------------------------------------------------------

    def follow(self, namespaces: Collection[str]) -> None:
        """The workloads of the node are of these namespaces: for no others are consumer routes needed."""
        self._follow(namespaces)

    def demanded(self, address: str, port: int, namespace: str) -> Known:
        """A connection to a VIP (canonical text) waits in a worker. The answer to that."""
        if namespace not in self._namespaces:  # a pod that has come since
            self._follow(self._namespaces | {namespace})
        name = next(iter(self._by_vip.get((address, port), ())), None)
        if name is None:
            return Known(address=address, port=port, listener=None)
        self._ask(name)
        return Known(address=address, port=port, listener=self._listeners[name].as_cold())

    async def ensure(self, name: str, namespace: str) -> bool:
        """Have a service in force, with the routes that callers of a namespace have, for somebody who asks
        about it. False: it takes too long.
        """
        if self._has(name, namespace):
            return True
        if namespace not in self._namespaces:
            self._follow(self._namespaces | {namespace})
        self._ask(name)
        async with self._news:
            try:
                async with asyncio.timeout(EXPLAIN_SECONDS):
                    return await self._news.wait_for(lambda: self._has(name, namespace))
            except TimeoutError:
                return False

    def _has(self, name: str, namespace: str) -> bool:
        found = self._in_force.listeners.get(name)
        if found is None or found.cold:
            return False
        return bool(found.protocol is Protocol.TCP or found.seen_from(namespace).route_config)

    async def run(self) -> None:
        """Look again and again at what is still used, until cancelled."""
        if self._settings.everything:
            return
        least, most = LOOK_SECONDS
        patience = min(self._settings.unused_after, self._settings.kept_for)
        while True:
            await asyncio.sleep(min(most, max(least, patience / 4)))
            try:
                await self.look(time.monotonic())
            except OSError as error:
                log.event(_logger, logging.WARNING, "use of services not read", reason=error)

    async def look(self, now: float) -> None:
        """Give up what has not been used for long, as long as it could be had again. ``now``: by
        time.monotonic. Raises OSError.
        """
        if not self._subscriptions.connected:
            return
        due = self._demand.due(now)
        vips = {name: tuple(_vips(self._listeners[name])) for name in due if name in self._listeners}
        self._demand.seen({name: self._uses.last(ends) for name, ends in vips.items()})
        if not self._demand.due(now):
            return
        ends = await asyncio.to_thread(self._uses.connected)
        connected = {name for name, own in vips.items() if not set(own).isdisjoint(ends)}
        self._want(self._demand.pass_on(connected, now))

    def view(self) -> DemandView:
        """For people, and for metrics."""
        listeners = self._in_force.listeners
        return DemandView(
            on=not self._settings.everything,
            known=len(listeners),
            used=sum(not each.cold for each in listeners.values()),
            waiting=len(self._demand.asked),
            asked=self._asked,
            fulfilled=sum(self._took.values()),
            seconds=self._seconds,
            buckets=tuple(
                sum(count for least, count in self._took.items() if least <= bound)
                for bound in LATENCY_BUCKETS
            ),
        )

    # -- inside --------------------------------------------------------------------------------------

    def _ask(self, name: str) -> None:
        if wants := self._demand.ask(name, time.monotonic()):
            self._asked += 1
            log.event(_logger, logging.DEBUG, "service asked for", service=name)
            self._want(wants)

    def _follow(self, namespaces: Collection[str]) -> None:
        self._namespaces = frozenset(namespaces)
        self._subscriptions.follow(self._namespaces)

    def _want(self, wants: Wants) -> None:
        for want in Want:
            names = [name for name, each in wants.items() if each is want]
            if names:
                self._subscriptions.want(names, want)
                if want is not Want.USED:
                    log.event(_logger, logging.INFO, "services out of use", count=len(names), now=want.value)


def _is_whole(snapshot: Snapshot, name: str) -> bool:
    found = snapshot.listeners.get(name)
    return found is not None and not found.cold


def _vips(listener: Listener) -> Iterator[End]:
    return ((address, listener.port) for address in listener.addresses)
