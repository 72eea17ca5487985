"""The scenarios are what they say: the same answers from all, each by its own way."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from meshd.bench import h2load, manifests, testbed, wanted, wrk
from meshd.bench.accounting import read
from meshd.bench.checking import Question
from meshd.bench.plan import Load
from meshd.bench.results import PLACEMENTS, SCENARIOS, Placement, Protocol, Scenario
from meshd.bench.testbed import Bed
from meshd.lab.command.client import ask
from meshd.lab.command.protocol import GetStatus, Status
from meshd.lab.system import cgroup
from meshd.model.view import FlowsView, StatusView
from meshd.paths import run_dir
from tests.support import unix_http
from tests.support.lab import until

SIZES = (16, 1024, 16384, 1048576)
TIMES = 40
PROTOCOLS: tuple[Protocol, ...] = ("http1", "h2", "grpc", "grpc-stream")
REQUESTS: dict[Protocol, int] = {"http1": TIMES, "h2": TIMES, "grpc": TIMES, "grpc-stream": 1}
"""What TIMES answers are to a proxy: a stream's messages are all of one request."""
_UP_SECONDS = 170
_IN_FORCE_SECONDS = 30.0
_LOAD_SECONDS = 100
"""At most: it is ended when it has been seen."""

Beds = dict[Scenario, Bed]


@pytest.fixture(scope="module")
def beds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beds]:
    prefix = f"t{secrets.token_hex(2)}"
    found: Beds = {}
    try:
        for scenario in SCENARIOS:
            folder = tmp_path_factory.mktemp(scenario)
            found[scenario] = Bed.named(prefix, scenario, folder)
        starting = {
            scenario: bed.up(manifests.write(bed.folder, SIZES, 2, scenario, streams=True), 2)
            for scenario, bed in found.items()
        }
        problems = {name: testbed.wait(process, _UP_SECONDS) for name, process in starting.items()}
        assert not any(problems.values()), problems
        loads = [
            Load(placement, 1, protocol=protocol, route=route)
            for placement in PLACEMENTS
            for route in (False, True)
            for protocol in PROTOCOLS
        ]
        for bed in found.values():
            assert not wrong(bed, loads, 1, _IN_FORCE_SECONDS)
        yield found
    finally:
        problems_left = testbed.take_down(list(found.values()))
        assert not problems_left


def wrong(bed: Bed, loads: Sequence[Load], times: int, patience: float = 0.0) -> dict[Load, str]:
    """What is wrong with answers; empty: nothing."""
    questions = [Question(wanted.host(load), load, times, patience) for load in loads]
    found = zip(loads, bed.checked(questions), strict=True)
    return {load: answer.wrong for load, answer in found if answer.wrong}


def get(
    bed: Bed,
    placement: Placement,
    size: int = 16,
    route: bool = False,
    protocol: Protocol = "http1",
) -> None:
    """TIMES answers, on one connection; on one stream, if it is about streams."""
    load = Load(placement, 1, size, protocol, route)
    assert not wrong(bed, [load], TIMES)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_all_scenarios_give_the_same_answers(beds: Beds, scenario: Scenario) -> None:
    """Every byte of a body is compared with the one that is wanted, whoever answers."""
    loads = [
        Load(placement, 1, size, protocol, route)
        for placement in PLACEMENTS
        for size in SIZES
        for protocol in PROTOCOLS
        for route in (False, True)
        if protocol == "http1" or size == 16384
    ]
    assert not wrong(beds[scenario], loads, 4)


def packets(bed: Bed) -> int:
    """That came to the client's pod and left it, on its veth."""
    with bed.running(("cat", "/proc/net/dev")) as process:
        out, _ = process.communicate(timeout=60)
    fields = next(line for line in out.splitlines() if "eth0:" in line).partition(":")[2].split()
    return int(fields[1]) + int(fields[9])


def on_the_wire(bed: Bed, placement: Placement, size: int = 16, protocol: Protocol = "http1") -> int:
    before = packets(bed)
    get(bed, placement, size, protocol=protocol)
    return packets(bed) - before


@pytest.mark.parametrize(("size", "protocol"), [*((16, p) for p in PROTOCOLS), (16384, "http1")])
def test_on_one_node_the_fast_path_puts_nothing_on_the_wire(
    beds: Beds, size: int, protocol: Protocol
) -> None:
    """But for the connection itself, and the first request of HTTP/1.1, which is the proxy's."""
    assert on_the_wire(beds["direct"], "same-node", size, protocol) >= 2 * TIMES
    assert on_the_wire(beds["meshd-slow"], "same-node", size, protocol) >= 2 * TIMES
    assert on_the_wire(beds["meshd-fast"], "same-node", size, protocol) < TIMES // 2


def test_the_sidecars_bodies_are_on_the_wire(beds: Beds) -> None:
    assert on_the_wire(beds["sidecar"], "same-node") >= 2 * TIMES


def passed(bed: Bed, whose: str, manager: str) -> int:
    """Requests that an Envoy's HTTP connection managers of that name (a pattern) took.

    ``whose``: as in Lab.envoy_admin.
    """
    pattern = rf"^http\.{manager}\.downstream_rq_total$"
    found = unix_http.get(bed.lab.envoy_admin(whose), f"/stats?format=json&filter={pattern}")
    return sum(stat["value"] for stat in json.loads(found)["stats"] if "value" in stat)


WAYS = [
    *((placement, route, PROTOCOLS[0]) for placement in PLACEMENTS for route in (False, True)),
    *(("two-nodes", True, protocol) for protocol in PROTOCOLS[1:]),
]


@pytest.mark.parametrize(("placement", "route", "protocol"), WAYS)
def test_each_request_passes_both_sidecars(
    beds: Beds, placement: Placement, route: bool, protocol: Protocol
) -> None:
    bed = beds["sidecar"]
    ips = {pod.name: pod.ip for pod in ask(bed.lab, GetStatus(), Status).pods}
    near, far = ips[manifests.CLIENT], ips[wanted.SERVERS[placement]]
    service = rf"default/{wanted.host(Load(placement, route=route))}_{wanted.PORTS[protocol]}"
    before = passed(bed, near, service), passed(bed, far, "inbound")
    get(bed, placement, route=route, protocol=protocol)
    assert passed(bed, near, service) - before[0] == REQUESTS[protocol]
    assert passed(bed, far, "inbound") - before[1] == REQUESTS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scenario", ["node-proxy", "node-proxy-sockmap"])
def test_each_request_passes_the_envoy_of_the_clients_node(
    beds: Beds, scenario: Scenario, protocol: Protocol
) -> None:
    bed, services = beds[scenario], rf"default/\w+_{wanted.PORTS[protocol]}"
    before = passed(bed, "node1", services), passed(bed, "node2", services)
    get(bed, "two-nodes", protocol=protocol)
    assert passed(bed, "node1", services) - before[0] == REQUESTS[protocol]
    assert passed(bed, "node2", services) == before[1]


def asked(bed: Bed, what: str) -> str:
    """What the agent of the client's node says."""
    return unix_http.get(run_dir(bed.lab.instance("node1")) / "agent.sock", f"/v1/{what}")


def seen(bed: Bed) -> int:
    """Requests that the client's node has counted."""
    return msgspec.json.decode(asked(bed, "status"), type=StatusView).requests


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_with_the_fast_path_the_kernel_carries_all_but_the_first_request(
    beds: Beds, placement: Placement
) -> None:
    bed = beds["meshd-fast"]
    before, counted = bed.carried(), seen(bed)
    get(bed, placement)
    after = bed.carried()
    assert before is not None
    assert after is not None
    assert TIMES - 2 <= after - before <= TIMES - 1
    assert seen(bed) - counted == TIMES, "each is counted, whichever way it went"


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_with_the_fast_path_connections_of_http2_are_spliced(beds: Beds, protocol: Protocol) -> None:
    """So the proxy has none of their requests; that they are there, flows show."""
    bed = beds["meshd-fast"]
    before = seen(bed)
    get(bed, "same-node", protocol=protocol)
    assert seen(bed) == before


PATHS: list[tuple[Scenario, Protocol, str]] = [
    ("meshd-fast", "http1", "kernel"),
    ("meshd-fast", "h2", "spliced"),
    ("meshd-slow", "http1", "proxy"),
    ("meshd-slow", "grpc", "proxy"),
]


@pytest.mark.parametrize(("scenario", "protocol", "path"), PATHS)
def test_flows_show_a_load_on_its_path(beds: Beds, scenario: Scenario, protocol: Protocol, path: str) -> None:
    bed = beds[scenario]
    load = Load("same-node", 2, protocol=protocol)
    h2load.prepare(bed.folder)
    command = (
        wrk.command(wanted.url(load), wanted.HEADERS, 2, _LOAD_SECONDS)
        if load.is_http1
        else h2load.command(load, wanted.HEADERS, _LOAD_SECONDS, bed.folder)
    )

    def is_on_its_path() -> bool:
        found = msgspec.json.decode(asked(bed, "flows"), type=FlowsView).flows
        ours = [flow for flow in found if (flow.workload, flow.path) == ("default/client", path)]
        return any(flow.carried > TIMES or path == "proxy" for flow in ours)

    with bed.running(command):
        until(is_on_its_path)


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_with_a_route_the_proxy_has_each_request_of_http2(beds: Beds, protocol: Protocol) -> None:
    bed = beds["meshd-fast"]
    before = seen(bed)
    get(bed, "same-node", route=True, protocol=protocol)
    assert seen(bed) - before == REQUESTS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_the_fast_path_the_proxy_has_all(beds: Beds, protocol: Protocol) -> None:
    bed = beds["meshd-slow"]
    before, counted = bed.carried(), seen(bed)
    get(bed, "same-node", protocol=protocol)
    assert bed.carried() == before == 0
    assert seen(bed) - counted == REQUESTS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_route_decides_where_there_is_a_mesh(beds: Beds, scenario: Scenario, protocol: Protocol) -> None:
    """A request that no rule of the route takes is answered with 404, a call with UNIMPLEMENTED."""
    url = f"http://near-routed:{wanted.PORTS[protocol]}/bytes/16"
    said = "%{http_code} %header{grpc-status}"
    command = ["curl", "-s", "-o", "/dev/null", "-w", said]
    if protocol != "http1":
        command.append("--http2-prior-knowledge")
    if protocol.startswith("grpc"):
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "--data-binary", ""]
    with beds[scenario].running((*command, url)) as process:
        found, _ = process.communicate(timeout=60)
    if scenario == "direct":
        assert found in ("200 ", "200 0"), "no mesh asks for the header"
    else:
        assert found == ("200 12" if protocol.startswith("grpc") else "404 ")


def test_cpu_time_is_counted_with_who_used_it(beds: Beds) -> None:
    bed = beds["sidecar"]
    groups = bed.groups("same-node")
    before = read(groups, ())
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    with bed.running((sys.executable, "-c", spin), cpu=0) as process:
        process.communicate(timeout=100)
    used = read(groups, ()).cpu_since(before)
    assert 500_000 <= used["client"] < 900_000
    assert used["app"] < 100_000
    get(bed, "same-node", 1048576)
    assert read(groups, ()).cpu_since(before)["proxy"] > used["proxy"]


def test_each_side_has_its_cpu(beds: Beds) -> None:
    bed = beds["sidecar"]
    bed.pin(0, 1)

    def cpus(group: Path) -> set[str]:
        pids = (group / "cgroup.procs").read_text().split()
        return {
            line.split()[1]
            for pid in pids
            for status in Path(f"/proc/{pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if line.startswith("Cpus_allowed_list")
        }

    root = cgroup.find_root()
    assert cpus(root / bed.lab.sidecar_cgroup("node1", "default", "client")) == {"0"}
    assert cpus(root / bed.lab.sidecar_cgroup("node1", "default", "near")) == {"1"}
    assert cpus(root / bed.lab.sidecar_cgroup("node2", "default", "far")) == {"1"}
    assert cpus(root / bed.lab.pod_cgroup("node1", "default", "near")) == {"1"}


def test_what_is_wrong_with_an_answer_is_said(beds: Beds) -> None:
    with pytest.raises(testbed.BedError, match=r"near does not answer as it should: .*404"):
        beds["direct"].check(Question("near", Load("same-node", 1, 17), 1))
