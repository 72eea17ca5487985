"""gRPC through real pods: the suite's GRPCRoute cases, all kinds of calls, and what goes wrong with them.

Behind meshd, and behind Envoy fed by meshd control.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance import grpc_cases
from tests.conformance.cases import NAMESPACE
from tests.conformance.grpc_cases import CASES, ECHO, OWN, PORT, Call, Case
from tests.conformance.world import ENVOY, MESHD, World
from tests.support.lab import MESHD as COMMAND
from tests.support.lab import until

PROXIES = (MESHD, ENVOY)
NODE = "node"
APIS = ("sync", "aio", NODE)
"""Clients: grpcio's two, and grpc-js in Node."""
NOBODY = "nobody"
"""In place of a proxy: the client finds services over xDS itself."""
Asked = dict[str, Any]
Ended = dict[str, Any]
_SHARE_TOLERANCE = 0.1
"""With 500 calls nearly five standard deviations."""
_ALL = {"grpc-v1", "grpc-v2", "grpc-v3"}


@pytest.fixture(scope="module")
def callers(world: World) -> Iterator[Callers]:
    """Clients in the pods behind both proxies."""
    with contextlib.closing(Callers(world)) as found:
        yield found


class Callers:
    """Processes in pods that make calls, each started when it is needed first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._processes: dict[tuple[str, str], subprocess.Popen[str]] = {}

    def ask(self, proxy: str, service: str, *calls: Asked, api: str = "sync") -> list[list[Ended]]:
        """Make calls in turn on one channel, from the pod behind a proxy."""
        process = self._processes.get((proxy, api)) or self._started(proxy, api)
        assert process.stdin is not None
        assert process.stdout is not None
        target = f"{'xds:///' if proxy == NOBODY else ''}{service}:{PORT}"
        process.stdin.write(json.dumps([target, calls]) + "\n")
        answer = process.stdout.readline()
        assert answer, "the client has ended"
        found: list[list[Ended]] = json.loads(answer)
        return found

    def one(self, proxy: str, service: str, call: Asked, api: str = "sync") -> Ended:
        """One call."""
        ((found,),) = self.ask(proxy, service, call, api=api)
        return found

    def _started(self, proxy: str, api: str) -> subprocess.Popen[str]:
        lab = [*COMMAND, "lab", "--name", self._world.lab.name]
        pod = grpc_cases.PROXYLESS if proxy == NOBODY else self._world.client(proxy)
        folder = Path(__file__).parent
        client = [sys.executable, str(folder / "pods/call.py"), api]
        if api == NODE:
            client = [NODE, str(folder / "node/call.mjs")]
        self._processes[proxy, api] = subprocess.Popen(
            [*lab, "exec", "-n", NAMESPACE, pod, "--", *client],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self._processes[proxy, api]

    def close(self) -> None:
        for process in self._processes.values():
            with process:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(30)


# -- the suite's -------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("case", [*CASES, *OWN], ids=lambda case: case.name)
def test_routes(callers: Callers, case: Case, proxy: str) -> None:
    calls = [
        {"method": f"/{ECHO}/{call.method}", "metadata": call.metadata, "times": call.times}
        for call in case.calls
    ]
    for call, ends in zip(case.calls, callers.ask(proxy, case.slug, *calls), strict=True):
        _check(call, ends, proxy)


def _check(call: Call, ends: list[Ended], proxy: str) -> None:
    pods: Counter[str] = Counter()
    for end in ends:
        assert end["code"] == call.code, (call, end)
        if call.code != "OK":
            assert end["details"] or proxy == ENVOY, call
            continue
        (message,) = end["messages"]
        pods[message["pod"]] += 1
        assert message["pod"] in call.to, call
        seen = {name: ",".join(values).replace(", ", ",") for name, values in message["metadata"].items()}
        assert call.seen.items() <= seen.items(), call
        assert not seen.keys() & set(call.absent), call
    for pod, share in call.split.items():
        assert abs(pods[pod] / pods.total() - share) < _SHARE_TOLERANCE, pods


# -- calls of all kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("api", APIS)
def test_all_kinds_of_calls(callers: Callers, proxy: str, api: str) -> None:
    texts = [{"text": "x" * size} for size in (0, 1, 20_000, 100_000)]
    (echo,), (many,), (collect,), (chat,), (broken,) = callers.ask(
        proxy,
        "everything",
        {"method": f"/{ECHO}/Echo", "request": {"text": "x" * 200_000}, "metadata": {"a": "1"}},
        {"method": "/demo.Streams/Many", "request": {"count": 50, "size": 10_000}},
        {"method": "/demo.Streams/Collect", "requests": texts},
        {"method": "/demo.Streams/Chat", "requests": texts},
        {"method": "/demo.Streams/Many", "request": {"count": 3, "code": "DATA_LOSS"}},
        api=api,
    )
    for end in (echo, many, collect, chat):
        assert (end["code"], end["details"]) == ("OK", ""), end
    assert len(echo["messages"][0]["request"]["text"]) == 200_000
    assert echo["messages"][0]["metadata"]["a"] == ["1"]
    pod = echo["messages"][0]["pod"]
    assert (echo["head"]["x-from"], echo["last"]["x-last"]) == (pod, pod)
    assert [message["number"] for message in many["messages"]] == list(range(50))
    assert collect["messages"] == [{"pod": collect["messages"][0]["pod"], "count": 4, "size": 120_001}]
    assert [message["request"] for message in chat["messages"]] == texts
    assert (broken["code"], broken["details"]) == ("DATA_LOSS", "at the end")
    # grpc-js may drop what it has received when an error ends a call.
    assert [message["number"] for message in broken["messages"]] == [0, 1, 2] or api == NODE


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_servers_error_ends_a_call_whose_client_is_still_sending(callers: Callers, proxy: str) -> None:
    """Not by aio, which calls it an internal error where its next message cannot go out any more."""
    requests = [{"text": "a"}, {"code": "ABORTED"}, *[{"text": "more"}] * 20]
    end = callers.one(proxy, "everything", {"method": "/demo.Streams/Chat", "requests": requests})
    assert (end["code"], end["details"], len(end["messages"])) == ("ABORTED", "as you say", 1)


def test_an_error_without_a_message_ends_a_call_whose_client_is_still_sending(callers: Callers) -> None:
    """By its server, and by the mesh. Envoy resets such a stream, and its client may see that first."""
    requests = [{"code": "ABORTED"}, *[{"text": "more"}] * 20]
    end = callers.one(MESHD, "everything", {"method": "/demo.Streams/Chat", "requests": requests})
    assert (end["code"], end["details"], end["messages"]) == ("ABORTED", "as you say", [])
    end = callers.one(MESHD, "grpc-errors", {"method": "/demo.Streams/Chat", "requests": requests})
    assert (end["code"], bool(end["details"]), end["messages"]) == ("UNAVAILABLE", True, [])


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("api", ["sync", NODE])
def test_the_calls_of_one_channel_go_to_all_servers(callers: Callers, proxy: str, api: str) -> None:
    """One after the other, and, by Node, all at once."""
    (ends,) = callers.ask(proxy, "everything", {"method": f"/{ECHO}/Echo", "times": 30}, api=api)
    assert {end["code"] for end in ends} == {"OK"}
    pods = Counter(end["messages"][0]["pod"] for end in ends)
    assert pods.keys() == _ALL
    assert max(pods.values()) <= 20


# -- what goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("api", APIS)
def test_errors_are_statuses_with_a_message(callers: Callers, proxy: str, api: str) -> None:
    (own,), (nobody,), (unknown,) = callers.ask(
        proxy,
        "grpc-errors",
        {"method": "/demo.Calls/Fail", "request": {"code": "NOT_FOUND", "details": "100 % \u00fc\n"}},
        {"method": f"/{ECHO}/Echo"},
        {"method": "/demo.Nothing/Do"},
        api=api,
    )
    assert (own["code"], own["details"]) == ("NOT_FOUND", "100 % \u00fc\n")
    assert (nobody["code"], unknown["code"]) == ("UNAVAILABLE", "UNIMPLEMENTED")
    assert nobody["details"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_statuses_are_tried_again_where_a_policy_says(callers: Callers, proxy: str) -> None:
    def failing(code: str, times: int) -> Asked:
        return {
            "method": "/demo.Calls/Fail",
            "request": {"code": code, "times": times, "key": uuid.uuid4().hex},
        }

    (once,), (too_often,), (other,) = callers.ask(
        proxy,
        "grpc-policies",
        failing("UNAVAILABLE", 2),
        failing("UNAVAILABLE", 3),
        failing("INTERNAL", 1),
    )
    assert [end["code"] for end in (once, too_often, other)] == ["OK", "UNAVAILABLE", "INTERNAL"]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("api", APIS)
def test_a_call_ends_at_its_server_with_its_client(callers: Callers, proxy: str, api: str) -> None:
    """By cancellation, by the client's deadline, and by the one that the mesh keeps."""
    cancelled, late, limited = (uuid.uuid4().hex for _ in range(3))
    wait = "/demo.Calls/Wait"
    (first,), (second,), (third,) = callers.ask(
        proxy,
        "grpc-policies",
        {"method": wait, "request": {"key": cancelled}, "cancel": 0.3},
        {"method": wait, "request": {"key": late}, "timeout": 0.3},
        {"method": wait, "request": {"key": limited}, "timeout": 25.0},
        api=api,
    )
    assert [end["code"] for end in (first, second, third)] == [
        *("CANCELLED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    ]
    keys = (cancelled, late, limited)
    until(lambda: [_counts(callers, key) for key in keys] == [(1, 1)] * 3)


def _counts(callers: Callers, key: str) -> tuple[int, int]:
    found = callers.one(MESHD, "grpc-policies", {"method": "/demo.Calls/Counts", "request": {"key": key}})
    message = found["messages"][0]
    return message["begun"], message["cancelled"]


@pytest.mark.parametrize("api", ["sync", NODE])
def test_a_deadline_is_passed_on(callers: Callers, api: str) -> None:
    for proxy in PROXIES:
        end = callers.one(proxy, "everything", {"method": f"/{ECHO}/Echo", "timeout": 20.0}, api)
        assert 0 < end["messages"][0]["left"] < 21.0
    end = callers.one(MESHD, "grpc-policies", {"method": f"/{ECHO}/Echo", "timeout": 20.0}, api)
    assert 0 < end["messages"][0]["left"] < 2.0


# -- clients without a proxy -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GRPCExactMethodMatching", "GRPCRouteHeaderMatching", "GRPCRouteWeight"])
def test_clients_without_a_proxy_follow_the_routes(callers: Callers, name: str) -> None:
    (case,) = (each for each in CASES if each.name == name)
    calls = [
        {"method": f"/{ECHO}/{call.method}", "metadata": call.metadata, "times": call.times}
        for call in case.calls
    ]
    for call, ends in zip(case.calls, callers.ask(NOBODY, case.slug, *calls), strict=True):
        # No route: UNAVAILABLE (gRPC proposal A36).
        _check(replace(call, code="UNAVAILABLE" if call.code != "OK" else "OK"), ends, NOBODY)


# -- changes -----------------------------------------------------------------------------------------


def test_no_call_fails_while_its_servers_are_replaced(world: World, callers: Callers, tmp_path: Path) -> None:
    manifest = tmp_path / "rolling.yaml"

    def apply(version: str) -> None:
        manifest.write_text(yaml.safe_dump_all(grpc_cases.rolling(version)))
        world.lab.run("apply", "-f", str(manifest))

    def served_by() -> set[str]:
        (ends,) = callers.ask(MESHD, "rolling", {"method": f"/{ECHO}/Echo", "times": 20})
        codes.update(end["code"] for end in ends)
        return {message["pod"] for end in ends for message in end["messages"]}

    codes: Counter[str] = Counter()
    apply("one")
    try:
        until(lambda: served_by() == {"one"}, 40)
        codes.clear()
        apply("two")
        until(lambda: served_by() == {"two"}, 40)
        assert codes.keys() == {"OK"}
    finally:
        world.lab.run("delete", "-f", str(manifest))


# -- how it is seen ----------------------------------------------------------------------------------


def _said(world: World, *arguments: str) -> str:
    command = [*COMMAND, *arguments, "--instance", world.lab.instance("node1")]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_what_the_command_line_says(world: World) -> None:
    words = [line.split() for line in _said(world, "routes").splitlines()]
    name = f"{NAMESPACE}/grpcroutenamedrule"
    assert [name, "Service", f"{name}:{PORT}", "yes", "yes", "-"] in words
    (node,) = json.loads(_said(world, "routes", "-o", "json"))["nodes"]
    assert {each["name"] for each in node["grpcRoutes"]} >= {case.slug for case in CASES}
    said = _said(world, "explain", f"{name}:{PORT}", "POST", f"/{ECHO}/Echo")
    assert f"  Route    {name}/named-rule, " in said
    assert f"  Match    gRPC * /{ECHO}/Echo\n" in said
    assert "  Path     proxy, because: the route keeps deadlines\n" in said


def test_calls_are_counted_by_their_status(world: World, callers: Callers) -> None:
    callers.one(MESHD, "everything", {"method": f"/{ECHO}/Echo"})
    callers.one(
        MESHD, "everything", {"method": "/demo.Streams/Many", "request": {"count": 1, "code": "ABORTED"}}
    )
    callers.one(MESHD, "grpc-errors", {"method": f"/{ECHO}/Echo"})

    ask = ["ip", "netns", "exec", f"meshd-{world.lab.name}-node1"]
    ask += ["curl", "-sS", "http://127.0.0.1:15020/metrics"]

    def counted() -> bool:
        found = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
        rows = [line for line in found.splitlines() if line.startswith("meshd_requests_total{")]
        return all(
            any(
                f'service="{NAMESPACE}/{name}:{PORT}"' in row and f'grpc_status="{code}"' in row
                for row in rows
            )
            for name, code in (("everything", "0"), ("everything", "10"), ("grpc-errors", "14"))
        )

    until(counted)
