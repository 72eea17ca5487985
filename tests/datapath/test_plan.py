"""Map operations: after each one, every VIP shows a whole set of slots, its old one or its new one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.datapath.errors import CaptureError
from meshd.datapath.services.installed import Handling, Installed, ServiceEntry
from meshd.datapath.services.plan import (
    Operation,
    PutService,
    PutSlots,
    RemoveService,
    RemoveSlots,
    plan,
)
from meshd.datapath.services.slots import MAX_SLOTS, Target, slot_counts, slot_table, target
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import FailurePolicy, Listener, Protocol
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Delta, Snapshot, difference

ADDRESSES = ("10.244.0.1", "10.244.0.2", "10.244.1.1", "fd00::1", "fd00::2")
VIPS = ("10.96.0.1", "10.96.0.2", "fd00:96::1")


class Maps:
    """What the operations make of the two maps."""

    def __init__(self) -> None:
        self.services: dict[Target, ServiceEntry] = {}
        self.endpoints: dict[tuple[int, int, int], Target] = {}

    def perform(self, operation: Operation) -> None:
        match operation:
            case PutSlots(service, generation, targets):
                for slot, where in enumerate(targets):
                    self.endpoints[service, generation, slot] = where
            case PutService(vip, entry):
                self.services[vip] = entry
            case RemoveService(vip):
                del self.services[vip]
            case RemoveSlots(service, generation, slots):
                for slot in range(slots):
                    del self.endpoints[service, generation, slot]

    def shown(self, vip: Target) -> list[Target] | None:
        """The endpoints that a connect to the VIP may be sent to; None: it is no service."""
        entry = self.services.get(vip)
        if entry is None:
            return None
        slots = range(entry.first_slot, entry.first_slot + entry.slots)
        return [self.endpoints[entry.id, entry.generation, slot] for slot in slots]


endpoint = st.builds(
    Endpoint,
    address=st.sampled_from(ADDRESSES),
    port=st.sampled_from((8080, 8081)),
    weight=st.integers(0, 5),
    health=st.sampled_from(Health),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    listeners, endpoints = {}, {}
    for name in draw(st.sets(st.sampled_from(("a/x:80", "a/y:80", "b/x:443")))):
        whole = Listener(
            name=name,
            service=name.partition(":")[0],
            addresses=tuple(sorted(draw(st.sets(st.sampled_from(VIPS))))),
            port=int(name.partition(":")[2]),
            protocol=draw(st.sampled_from(Protocol)),
            cluster=draw(st.sampled_from((name, "a/x:80"))),
            failure_policy=draw(st.sampled_from(FailurePolicy)),
        )
        listeners[name] = draw(st.sampled_from((whole, whole.as_cold())))
        if draw(st.booleans()):
            endpoints[name] = EndpointSet(name=name, endpoints=tuple(draw(st.lists(endpoint, max_size=4))))
    clusters = {
        name: Cluster(name=name, panic_percent=draw(st.sampled_from((0, 100))))
        for name in draw(st.sets(st.sampled_from(sorted(endpoints)) if endpoints else st.nothing()))
    }
    return Snapshot(1, listeners, clusters=clusters, endpoints=endpoints)


def expected(snapshot: Snapshot) -> dict[Target, list[Target]]:
    """What each VIP is to show."""
    shown: dict[Target, list[Target]] = {}
    for name in sorted(snapshot.listeners):
        listener = snapshot.listeners[name]
        cluster = snapshot.clusters.get(listener.cluster, Cluster(name=name))
        endpoints = snapshot.endpoints.get(listener.cluster, EndpointSet(name=name))
        table = slot_table(endpoints, cluster.panic_percent)
        for address in listener.addresses:
            vip = target(address, listener.port, name)
            shown.setdefault(vip, list(table.ipv4 if vip.ipv4 else table.ipv6))
    return shown


@given(st.lists(snapshots(), min_size=1, max_size=6), st.sets(st.integers(0, 5)))
def test_every_step_is_safe_and_the_last_is_the_snapshot(history: list[Snapshot], restarts: set[int]) -> None:
    maps, installed, old = Maps(), Installed(), Snapshot()
    now = Snapshot()
    for number, drawn in enumerate(history):
        # As config comes: what does not change is the same object.
        now = new = now.apply(difference(now, drawn))
        if (
            number in restarts
        ):  # another agent knows what is installed, but neither names nor the last snapshot
            installed = Installed(installed.services, installed.slots, next_id=installed.next_id)
            old = Snapshot()
        after = expected(new)
        known = {vip: maps.shown(vip) for vip in maps.services}
        ruled = {name: number for name, each in new.listeners.items() if number % 2 and not each.cold}
        rules = SharedMap(ruled)
        planned = plan(installed, old, new, rules)
        for operation in planned.operations:
            maps.perform(operation)
            for vip in {*known, *after}:
                assert maps.shown(vip) in (known.get(vip), after.get(vip)), operation
        assert {vip: maps.shown(vip) for vip in maps.services} == after
        for name, each in new.listeners.items():
            for vip in (target(address, each.port, name) for address in each.addresses):
                entry = maps.services[vip]
                if entry.id == planned.result.ids[name]:
                    assert entry.rules == rules.get(name, 0)
                    http = each.protocol is Protocol.HTTP
                    other = Handling.TCP_RELAYED if each.cold else Handling.TCP
                    assert entry.handling is (Handling.HTTP if http else other)
        assert maps.services == planned.result.services
        slots = {
            (number, each.generation, slot)
            for number, each in planned.result.slots.items()
            for slot in range(len(each.targets))
        }
        assert maps.endpoints.keys() == slots, "slots are left over"
        installed, old = planned.result, new


@given(snapshots())
def test_the_same_snapshot_is_no_work(snapshot: Snapshot) -> None:
    first = plan(Installed(), Snapshot(), snapshot).result
    assert plan(first, snapshot, snapshot).operations == []
    assert plan(first, Snapshot(), snapshot).operations == []


def _snapshot(*addresses: str, vips: tuple[str, ...] = ("10.96.0.1",), name: str = "a/x:80") -> Snapshot:
    listener = Listener(
        name=name, service="a/x", addresses=vips, port=80, protocol=Protocol.TCP, cluster=name
    )
    found = tuple(Endpoint(address=address, port=8080) for address in addresses)
    return Snapshot(1, {name: listener}, endpoints={name: EndpointSet(name=name, endpoints=found)})


def test_a_change_of_endpoints_is_a_new_generation_of_the_same_id() -> None:
    before, after = _snapshot("10.0.0.1"), _snapshot("10.0.0.1", "10.0.0.2")
    first = plan(Installed(), Snapshot(), before).result
    operations = plan(first, before, after).operations
    assert [type(each) for each in operations] == [PutSlots, PutService, RemoveSlots]
    vip = target("10.96.0.1", 80, "")
    assert operations[1] == PutService(vip, first.services[vip]._replace(generation=2, slots=2))


def test_other_rules_are_shown_in_place() -> None:
    snapshot = _snapshot("10.0.0.1", vips=VIPS)
    first = plan(Installed(), Snapshot(), snapshot, SharedMap({"a/x:80": 7})).result
    assert {entry.rules for entry in first.services.values()} == {7}
    changed = plan(first, snapshot, snapshot, SharedMap({"a/x:80": 8}))
    assert changed.operations == [
        PutService(vip, entry._replace(rules=8)) for vip, entry in sorted(first.services.items())
    ]
    assert plan(changed.result, snapshot, snapshot, SharedMap({"a/x:80": 8})).operations == []
    gone = plan(changed.result, snapshot, snapshot)
    assert {entry.rules for entry in gone.result.services.values()} == {0}


def test_a_new_vip_of_a_listener_keeps_id_and_slots() -> None:
    before = _snapshot("10.0.0.1")
    after = _snapshot("10.0.0.1", vips=("10.96.0.1", "10.96.0.2"))
    first = plan(Installed(), Snapshot(), before).result
    entry = first.services[target("10.96.0.1", 80, "")]
    assert plan(first, before, after).operations == [PutService(target("10.96.0.2", 80, ""), entry)]


def test_an_agent_that_restarts_takes_the_id_from_the_vip() -> None:
    snapshot = _snapshot("10.0.0.1")
    first = plan(Installed(), Snapshot(), snapshot).result
    found = Installed(first.services, first.slots, next_id=first.next_id)
    again = plan(found, Snapshot(), snapshot)
    assert again.operations == []
    assert again.result.ids == first.ids


def test_an_id_is_not_used_again() -> None:
    one, other = _snapshot("10.0.0.1"), _snapshot("10.0.0.1", vips=("10.96.0.9",), name="b/z:80")
    first = plan(Installed(), Snapshot(), one).result
    empty = plan(first, one, Snapshot()).result
    assert empty.services == {}
    assert plan(empty, Snapshot(), other).result.ids["b/z:80"] != first.ids["a/x:80"]


def test_an_address_that_is_none_names_its_object() -> None:
    with pytest.raises(CaptureError, match=r"endpoint of a/x:80: 'nonsense' is not an IP address"):
        plan(Installed(), Snapshot(), _snapshot("nonsense"))
    with pytest.raises(CaptureError, match=r"listener a/x:80: '10.96.0' is not an IP address"):
        plan(Installed(), Snapshot(), _snapshot("10.0.0.1", vips=("10.96.0",)))


def test_only_healthy_endpoints_with_weight_have_slots() -> None:
    endpoints = (
        Endpoint(address="10.0.0.1", port=1),
        Endpoint(address="10.0.0.2", port=1, weight=0),
        Endpoint(address="10.0.0.3", port=1, health=Health.DRAINING),
        Endpoint(address="10.0.0.4", port=1, health=Health.UNHEALTHY),
    )
    table = slot_table(EndpointSet(name="a", endpoints=endpoints))
    assert table == ((target("10.0.0.1", 1, ""),), ())


def test_connections_go_to_the_first_level_and_in_panic_to_all_of_it() -> None:
    def to(*healths: Health, panic_percent: int = 0) -> list[Target]:
        endpoints = [
            Endpoint(address=f"10.0.0.{i}", port=1, health=health) for i, health in enumerate(healths, 1)
        ]
        second = Endpoint(address="10.0.1.1", port=1, priority=1, health=Health.UNHEALTHY)
        table = slot_table(EndpointSet(name="a", endpoints=(*endpoints, second)), panic_percent)
        return sorted(set(table.ipv4))

    def targets(*addresses: str) -> list[Target]:
        return [target(address, 1, "") for address in addresses]

    healthy, ill = Health.HEALTHY, Health.UNHEALTHY
    assert to(healthy, healthy) == targets("10.0.0.1", "10.0.0.2")
    assert to(healthy, ill, ill) == targets("10.0.0.1")
    assert to(healthy, ill, ill, panic_percent=50) == targets("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1")


def test_a_change_of_the_panic_threshold_makes_other_slots() -> None:
    old = _snapshot("10.0.0.1")
    (name,) = old.listeners
    cluster = old.listeners[name].cluster
    ill = Endpoint(address="10.0.0.1", port=8080, health=Health.UNHEALTHY)
    old = old.apply(Delta(generation=2, endpoints=(EndpointSet(name=cluster, endpoints=(ill,)),)))
    new = old.apply(Delta(generation=3, clusters=(Cluster(name=cluster, panic_percent=1),)))
    first = plan(Installed(), Snapshot(), old)
    (slots, *_) = plan(first.result, old, new).operations
    assert isinstance(slots, PutSlots)
    assert slots.targets == (target("10.0.0.1", 8080, ""),)


def test_the_order_of_endpoints_does_not_matter() -> None:
    endpoints = [Endpoint(address=f"10.0.0.{n}", port=1, weight=n) for n in range(1, 9)]
    one = slot_table(EndpointSet(name="a", endpoints=tuple(endpoints)))
    other = slot_table(EndpointSet(name="a", endpoints=tuple(reversed(endpoints))))
    assert one == other


@pytest.mark.parametrize(
    ("weights", "counts"),
    [([], []), ([1], [1]), ([7], [1]), ([50, 50], [1, 1]), ([90, 10], [9, 1]), ([1, 2, 3], [1, 2, 3])],
)
def test_weights_that_fit_are_exact(weights: list[int], counts: list[int]) -> None:
    assert slot_counts(weights) == counts


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=300))
def test_slot_counts_are_bounded_and_close_to_the_weights(weights: list[int]) -> None:
    counts = slot_counts(weights)
    assert min(counts) >= 1
    assert sum(counts) <= MAX_SLOTS + len(weights)
    total = sum(weights)
    slots = min(total // math.gcd(*weights), MAX_SLOTS)
    for weight, count in zip(weights, counts, strict=True):
        assert abs(count - weight / total * slots) <= 1


@given(st.integers(1100, 3000))
def test_more_endpoints_than_slots_have_one_each(number: int) -> None:
    assert slot_counts([3] * (number - 1) + [4]) == [1] * number
