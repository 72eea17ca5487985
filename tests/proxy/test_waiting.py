"""Connections that wait for their service's config: bounded in number and time, and none forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import RouteConfig
from meshd.model.snapshot import Delta
from proxy import waiting
from proxy.in_force import ConfigInForce, ListenerState
from proxy.telemetry.stats import Counters
from proxy.waiting import WAIT_SECONDS, Waiting, Wanted

VIP, PORT = "10.96.0.1", 80
WANTED = Wanted(VIP, PORT, "shop")


class Held:
    """A connection that remembers what became of it."""

    def __init__(self, caller: object = None) -> None:
        self.caller = caller
        self.state: ListenerState | None = None
        self.reset = False

    def go_on(self, state: ListenerState) -> None:
        assert self.state is None
        assert not self.reset
        self.state = state

    def give_up(self) -> None:
        assert self.state is None
        self.reset = True


class Bed:
    """A clock, an agent that is told, and a config."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.config = ConfigInForce(lambda: self.now)
        self.counters = Counters()
        self.waiting = Waiting(self.config, self.counters, lambda: self.now)
        self.asked: list[Wanted] = []
        self.waiting.ask = self.asked.append

    def hold(self, caller: object = None, wanted: Wanted = WANTED) -> Held:
        held = Held(caller)
        assert self.waiting.add(wanted, held)
        return held

    def apply(self, listeners: Iterable[Listener], *configs: str) -> None:
        routes = tuple(RouteConfig(name=name) for name in configs)
        self.config.apply(Delta(generation=1, listeners=tuple(listeners), route_configs=routes))
        self.waiting.config_changed()

    def known(self, listener: Listener | None) -> None:
        self.waiting.known(VIP, PORT, listener.as_cold() if listener else None)

    def at(self, now: float) -> None:
        self.now = now
        self.waiting.check(now)


@pytest.fixture
def bed() -> Bed:
    return Bed()


def service(protocol: Protocol = Protocol.HTTP, consumers: tuple[tuple[str, str], ...] = ()) -> Listener:
    return Listener(
        name="shop/web:80",
        service="shop/web",
        addresses=(VIP,),
        port=PORT,
        protocol=protocol,
        cluster="shop/web:80",
        route_config="web",
        consumers=consumers,
    )


def test_all_go_on_as_soon_as_the_config_is_here_and_the_agent_is_asked_once(bed: Bed) -> None:
    held = [bed.hold() for _ in range(3)]
    assert bed.asked == [WANTED]
    bed.apply([])
    assert len(bed.waiting) == 3
    bed.apply([service()], "web")
    assert {each.state.listener.name for each in held if each.state} == {"shop/web:80"}
    assert all(each.state is held[0].state is not None for each in held)
    assert len(bed.waiting) == 0
    assert bed.counters.snapshot() == {"demand_connections_total": 3}


def test_a_namespace_waits_for_the_routes_of_its_own(bed: Bed) -> None:
    bed.apply([service(consumers=(("shop", ""),))], "web")
    assert bed.config.listener_at(VIP, PORT, "other") is not None
    assert bed.config.listener_at(VIP, PORT, "shop") is None
    held = bed.hold()
    bed.apply([service(consumers=(("shop", "web-for-shop"),))], "web-for-shop")
    assert held.state is not None
    assert held.state.listener.route_config == "web-for-shop"


def test_too_late_is_503_where_http_is_spoken_and_then_the_end(bed: Bed) -> None:
    first = bed.hold()
    bed.known(service())
    bed.at(1001.0)
    second = bed.hold()
    bed.at(1000.0 + WAIT_SECONDS)
    assert [each.state is not None for each in (first, second)] == [True, False]
    assert first.state is not None
    assert first.state.removed
    assert first.state.listener.name == "shop/web:80"
    assert len(bed.waiting) == 1
    bed.at(1001.0 + WAIT_SECONDS)
    assert [each.state is not None for each in (first, second)] == [True, True]
    assert bed.counters.snapshot()["demand_timeouts_total"] == 2
    # The next one is waited for anew, and the agent is asked again.
    bed.hold()
    assert bed.asked == [WANTED, WANTED]


@pytest.mark.parametrize("listener", [None, service(Protocol.TCP)])
def test_too_late_is_a_reset_where_nothing_can_be_said(bed: Bed, listener: Listener | None) -> None:
    held = bed.hold()
    if listener is not None:
        bed.known(listener)
    bed.at(1000.0 + WAIT_SECONDS)
    assert held.reset
    assert len(bed.waiting) == 0


def test_nothing_is_waited_for_where_there_is_no_service(bed: Bed) -> None:
    held, other = bed.hold(), bed.hold(wanted=WANTED._replace(port=81))
    bed.known(None)
    assert held.reset
    assert not other.reset
    assert len(bed.waiting) == 1


def test_clients_and_callers_that_go_are_not_waited_for(bed: Bed) -> None:
    caller = object()
    gone, mine, others = bed.hold(), bed.hold(caller), bed.hold(object())
    bed.waiting.remove(WANTED, gone)
    bed.waiting.remove(WANTED, gone)
    assert len(bed.waiting) == 2
    bed.waiting.drop(caller)
    assert (gone.reset, mine.reset, others.reset) == (False, True, False)
    bed.apply([service()], "web")
    assert (gone.state, mine.state) == (None, None)
    assert others.state is not None
    assert len(bed.waiting) == 0


def test_another_agent_is_asked_again(bed: Bed) -> None:
    bed.hold()
    bed.hold(wanted=WANTED._replace(namespace="other"))
    again: list[Wanted] = []
    bed.waiting.ask = again.append
    bed.waiting.ask_again()
    assert again == bed.asked


def test_no_more_wait_than_may(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 2)
    held = [bed.hold() for _ in range(2)]
    assert not bed.waiting.add(WANTED, Held())
    assert bed.counters.snapshot()["demand_overflows_total"] == 1
    bed.waiting.remove(WANTED, held[0])
    assert bed.waiting.add(WANTED, Held())
