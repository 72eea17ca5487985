"""Rules in the kernel's maps: whole before a service shows them, and gone after it shows others."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from typing import cast

import msgspec
import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.loading.pins import Pins
from meshd.datapath.rules.compilation import CompiledRules, Limits
from meshd.datapath.rules.fingerprint import fnv1a, rules_fingerprint
from meshd.datapath.rules.maps import RuleMaps
from meshd.datapath.rules.values import RuleValues
from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    Forward,
    PathExact,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Delta, Snapshot

WEB, DB = "shop/web:80", "shop/db:5432"


class _Create(enum.IntEnum):
    """The command of bpf(2) that makes a map: no business of the running datapath."""

    MAP_CREATE = 0


@contextlib.contextmanager
def small_map(layout: Layout, name: str, entries: int) -> Iterator[Map]:
    """A map like one of the programs', with room for a few entries."""
    shape = layout.maps[name]
    command = cast("bpf.Command", _Create.MAP_CREATE)
    fd = bpf.call(command, "IIIII", shape.type, shape.key_size, shape.value_size, entries, shape.flags)
    made = Map(fd)
    made.name = name
    try:
        yield made
    finally:
        made.close()


def web(*routes: Route, name: str = WEB, address: str = "10.96.7.1") -> Snapshot:
    """A snapshot with one HTTP service."""
    listener = Listener(
        name=name,
        service=name.partition(":")[0],
        addresses=(address,),
        port=80,
        protocol=Protocol.HTTP,
        cluster=name,
        route_config=name,
        http=HttpOptions(via=""),
    )
    config = RouteConfig(name=name, virtual_hosts=(VirtualHost(name="all", routes=routes),))
    return Snapshot(1, {name: listener}, {name: config}, {name: Cluster(name=name)})


def route(match: RouteMatch | str = "/", *clusters: str) -> Route:
    shares = tuple(
        WeightedCluster(name=each, weight=weight) for weight, each in enumerate(clusters or (WEB,), 1)
    )
    found = RouteMatch(path=PathPrefix(match)) if isinstance(match, str) else match
    return Route(name=f"shop/r/{found.path.value}", match=found, action=Forward(clusters=shares))


class Kernel:
    """What the maps hold."""

    def __init__(self, datapath: Datapath, instance: str) -> None:
        self.layout = datapath.layout
        pins = Pins(instance)
        names = ("services", "rule_sets", "paths")
        self._maps = {name: Map.pinned(pins.map(self.layout, name)) for name in names}

    def close(self) -> None:
        for each in self._maps.values():
            each.close()

    def shown(self) -> set[int]:
        """The rules of all VIPs."""
        codec = self.layout.codec("service", "rules")
        return {codec.unpack(value)[0] for _, value in self._maps["services"].items()}

    def sets(self) -> set[int]:
        """The rules in force, for whatever callers."""
        return {int.from_bytes(key, "little") for key in self._maps["rule_sets"]}

    def paths(self) -> set[int]:
        """The rules that some path belongs to."""
        codec = self.layout.codec("path_key", "rules")
        return {codec.unpack(key)[0] for key in self._maps["paths"]}

    def fields(self, rules: int, path: str, kind: str, *names: str) -> tuple[object, ...] | None:
        """Fields of a path's entry."""
        key = self.layout.codec("path_key", "rules", "hash", "kind").pack(
            rules, fnv1a(path.encode()), self.layout.enums["path_kind"][kind]
        )
        value = self._maps["paths"].get(key)
        return None if value is None else self.layout.codec("path_routes", *names).unpack(value)

    def set_fields(self, rules: int, *names: str) -> tuple[object, ...]:
        value = self._maps["rule_sets"].get(rules.to_bytes(8, "little"))
        assert value is not None
        return self.layout.codec("rule_set", *names).unpack(value)


@pytest.fixture
def kernel(datapath: Datapath, instance: str) -> Iterator[Kernel]:
    opened = Kernel(datapath, instance)
    try:
        yield opened
    finally:
        opened.close()
        datapath.apply(Snapshot(), Snapshot())
        datapath.apply(Snapshot(), Snapshot())


def test_the_limits_are_those_of_the_programs(datapath: Datapath) -> None:
    assert RuleValues(datapath.layout).limits == Limits()


def test_the_maps_hold_what_was_compiled(datapath: Datapath, kernel: Kernel) -> None:
    conditional = RouteMatch(
        path=PathExact("/a/b"), method="POST", headers=(StringMatch(name="x-user", value="ann"),)
    )
    snapshot = web(
        route(conditional), route("/a/b", WEB, WEB), Route(name="shop/r/last", action=route().action)
    )
    datapath.apply(Snapshot(), snapshot)
    (rules,) = kernel.shown()
    assert rules == rules_fingerprint(snapshot, snapshot.listeners[WEB])
    assert kernel.sets() == kernel.paths() == {rules}
    lengths, names = (6).to_bytes(4, "little").ljust(16, b"\0"), b"x-user".ljust(128, b"\0")
    assert kernel.set_fields(rules, "exact", "prefixes", "headers", "header_length", "header") == (
        *(1, 2, 1, lengths, names),
    )
    first = [
        f"candidate[0].{name}"
        for name in ("route", "method", "action", "query", "conditions", "shares", "total")
    ]
    post, forward = kernel.layout.enums["method"]["METHOD_POST"], 1
    assert kernel.layout.enums["candidate_action"]["CANDIDATE_FORWARD"] == forward
    fields = kernel.fields(rules, "/a/b", "PATH_EXACT", "length", "candidates", "path", *first)
    assert fields == (4, 2, b"/a/b".ljust(256, b"\0"), *(0, post, forward, 0, 1, 1, 1))
    condition = [f"candidate[0].condition[0].{name}" for name in ("header", "length", "value")]
    assert kernel.fields(rules, "/a/b", "PATH_EXACT", *condition) == (0, 3, b"ann".ljust(32, b"\0"))
    shares = [f"candidate[{i}].share[{j}].bound" for i in range(2) for j in range(2)]
    assert kernel.fields(rules, "/a/b", "PATH_EXACT", *shares) == (1, 0, 1, 3)
    fields = kernel.fields(rules, "/a/b", "PATH_PREFIX", "candidates", *first)
    assert fields == (1, *(1, 0, forward, 0, 0, 2, 3))
    assert kernel.fields(rules, "", "PATH_PREFIX", "length", "candidates", "candidate[0].route") == (0, 1, 2)
    compiled = datapath.rules_of(WEB)
    assert isinstance(compiled, CompiledRules)
    assert compiled.routes == ("shop/r//a/b", "shop/r//a/b", "shop/r/last")


def test_a_change_puts_the_old_rules_out_of_force_and_their_paths_go_with_the_next_one(
    datapath: Datapath, kernel: Kernel
) -> None:
    first, second = web(route()), web(route("/a"))
    third = second.apply(Delta(generation=3, endpoints=(EndpointSet(name=WEB),)))
    datapath.apply(Snapshot(), first)
    (one,) = kernel.shown()
    datapath.apply(first, second)
    (two,) = kernel.shown()
    assert two != one
    assert kernel.sets() == {two}
    assert kernel.paths() == {one, two}
    datapath.apply(second, third)
    (three,) = kernel.shown()
    assert kernel.sets() == {three}
    assert kernel.paths() == {two, three}
    datapath.apply(third, second)
    assert kernel.shown() == kernel.sets() == {two}, "rules that come back are the same"
    assert kernel.fields(two, "/a", "PATH_PREFIX", "candidates") == (1,)
    datapath.apply(second, Snapshot())
    assert kernel.shown() == kernel.sets() == set()
    datapath.apply(Snapshot(), Snapshot())
    assert kernel.sets() == kernel.paths() == set()
    assert datapath.rules_of(WEB) == "it is not in force"


def _with_consumer(snapshot: Snapshot, *routes: Route) -> Snapshot:
    """With rules of their own for the callers of a namespace."""
    listener = msgspec.structs.replace(snapshot.listeners[WEB], consumers=(("x", "own"),))
    config = RouteConfig(name="own", virtual_hosts=(VirtualHost(name="all", routes=routes),))
    return snapshot.apply(Delta(generation=2, listeners=(listener,), route_configs=(config,)))


def test_rules_for_one_namespace_are_in_force_beside_those_that_the_service_shows(
    datapath: Datapath, kernel: Kernel, instance: str
) -> None:
    without = web(route())
    first, second = _with_consumer(without, route("/a")), _with_consumer(without, route("/b"))
    datapath.apply(Snapshot(), without)
    before = kernel.shown()
    assert kernel.sets() == before
    datapath.apply(without, first)
    own = rules_fingerprint(first, first.listeners[WEB].seen_from("x"))
    assert kernel.shown().isdisjoint(before | {own}), "the others' are other ones, too"
    assert kernel.sets() == kernel.shown() | {own}
    compiled = datapath.rules_of(WEB, "x")
    assert isinstance(compiled, CompiledRules)
    assert compiled.routes == ("shop/r//a",)
    datapath.apply(first, second)
    changed = rules_fingerprint(second, second.listeners[WEB].seen_from("x"))
    assert kernel.sets() == kernel.shown() | {changed}, "those that were changed are out of force at once"
    again = ensure_loaded(instance, datapath.cgroup, heartbeat_timeout=60.0)
    try:
        again.apply(Snapshot(), without)
        assert kernel.shown() == kernel.sets() == before
        again.apply(without, Snapshot())
        again.apply(Snapshot(), Snapshot())
    finally:
        again.close()


def test_services_without_rules(datapath: Datapath, kernel: Kernel) -> None:
    snapshot = web(route())
    off = msgspec.structs.replace(snapshot.listeners[WEB], fast_path=False)
    database = msgspec.structs.replace(off, name=DB, port=5432, protocol=Protocol.TCP, route_config="")
    datapath.apply(Snapshot(), snapshot.apply(Delta(generation=2, listeners=(off, database))))
    assert kernel.shown() == {0}
    assert kernel.sets() == kernel.paths() == set()
    assert datapath.rules_of(WEB) == "off for the service"
    assert datapath.rules_of(DB) == "opaque TCP"


@pytest.mark.parametrize("later", [lambda: web(route(), route("/c")), lambda: web(route())])
def test_an_agent_that_restarts_takes_over_and_removes_what_nobody_shows(
    datapath: Datapath, kernel: Kernel, instance: str, later: Callable[[], Snapshot]
) -> None:
    snapshot = web(route())
    datapath.apply(Snapshot(), web(route("/gone")))
    datapath.apply(Snapshot(), snapshot)
    (before,) = kernel.shown()
    again = ensure_loaded(instance, datapath.cgroup, heartbeat_timeout=60.0)
    try:
        assert kernel.shown() == {before}
        again.apply(Snapshot(), later())
        (rules,) = kernel.shown()
        assert (rules == before) == (later().route_configs == snapshot.route_configs)
        again.apply(later(), later())
        assert kernel.sets() == kernel.paths() == {rules}
        assert isinstance(again.rules_of(WEB), CompiledRules)
    finally:
        again.close()


def test_rules_that_find_no_room_are_written_when_there_is_some(
    datapath: Datapath, caplog: pytest.LogCaptureFixture
) -> None:
    layout = datapath.layout
    other = web(*(route(f"/{n}", "shop/api:80") for n in range(3)), name="shop/api:80", address="10.96.7.2")
    with (
        small_map(layout, "rule_sets", 8) as sets,
        small_map(layout, "paths", 4) as paths,
    ):
        maps = RuleMaps(sets, paths, layout)
        both = web(route(), route("/a")).apply(other.as_delta())
        shown = maps.prepare(both)
        maps.retire()
        (served,) = shown
        (refused,) = both.listeners.keys() - {served}
        assert maps.rules_of(refused) == "the paths map is full"
        assert "MESHD_MAX_PATHS" in caplog.text
        assert list(sets) == [shown[served].to_bytes(8, "little")], "nothing half written"
        assert len(list(paths)) == len(set(RuleValues(layout).path_entries(0, _rules(maps, served))))
        caplog.clear()
        assert maps.prepare(both) == shown
        assert not caplog.text, "it is said once"
        left = both.apply(Delta(generation=3, removed_listeners=(served,)))
        maps.prepare(left)
        maps.retire()
        shown = maps.prepare(left)
        assert shown == {refused: rules_fingerprint(left, left.listeners[refused])}
        assert isinstance(maps.rules_of(refused), CompiledRules)


def _rules(maps: RuleMaps, name: str) -> CompiledRules:
    found = maps.rules_of(name)
    assert isinstance(found, CompiledRules)
    return found
