"""A change is in force everywhere when the control plane has the ACK: real control plane, agent, kernel."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshd.bench.kernel_records import KernelRecords
from meshd.control.control import Control
from meshd.xds.delta_stream import DeltaStream
from tests.control.running import control, until
from tests.support.http_bed import Server, ok, read_response, receive_head
from tests.support.mesh_node import MeshNode
from tests.support.netns import Namespace, namespace

VIP = "10.96.0.1"
POD = "10.244.0.5"
SERVERS = {"a": "10.244.1.1", "b": "10.244.1.2", "web1": "10.244.1.3", "web2": "10.244.1.4"}
PORT = 8080
CHANGES = 60
CLIENTS = 4
DATE = b"Date: Sat, 21 Nov 2026 00:00:00 GMT"
PATHS = ("/", "/api/x", "/tested")
"""Of requests; the last one is sent with the header x-user: t."""


@dataclass(frozen=True)
class Rules:
    """Manifests of the service, and what they make of a request for each of PATHS."""

    rules: str
    """Of its HTTPRoute; empty: it has none."""
    answers: tuple[frozenset[str], ...]
    """Servers, or statuses; "web": those of ``web``."""
    endpoints: str = "[{addresses: [10.244.1.3]}, {addresses: [10.244.1.4]}]"
    web: frozenset[str] = frozenset(("web1", "web2"))
    """The service's own servers: what ``endpoints`` says."""

    def manifest(self) -> str:
        text = _service("web", VIP, self.endpoints)
        if self.rules:
            text += f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec: {{parentRefs: [{{group: "", kind: Service, name: web}}], rules: {self.rules}}}
"""
        return text


def _service(name: str, vip: str, endpoints: str) -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: {vip}, ports: [{{port: 80, appProtocol: http}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{port: {PORT}}}]
endpoints: {endpoints}
"""


def _to(*shares: tuple[str, int]) -> str:
    backends = ", ".join(f"{{name: {name}, port: 80, weight: {weight}}}" for name, weight in shares)
    return f"backendRefs: [{backends}]"


def _all(*answers: str) -> tuple[frozenset[str], ...]:
    return (frozenset(answers),) * len(PATHS)


def _but(other: str, where: int, rest: str) -> tuple[frozenset[str], ...]:
    """``rest``, and ``other`` for the path of that index."""
    return tuple(frozenset((other if index == where else rest,)) for index in range(len(PATHS)))


GONE = "[{addresses: [10.244.1.4]}]"
DRAINED = (
    "[{addresses: [10.244.1.3], conditions: {ready: false, serving: true, terminating: true}},"
    " {addresses: [10.244.1.4]}]"
)
ALL_RULES = (
    Rules("", _all("web")),
    Rules("", _all("web"), GONE, frozenset(("web2",))),
    Rules("", _all("web"), DRAINED, frozenset(("web2",))),
    Rules(f"[{{{_to(('a', 100), ('b', 0))}}}]", _all("a")),
    Rules(f"[{{{_to(('a', 0), ('b', 100))}}}]", _all("b")),
    Rules(f"[{{{_to(('a', 50), ('b', 50))}}}]", _all("a", "b")),
    Rules(
        f"[{{matches: [{{path: {{value: /api}}}}], {_to(('b', 1))}}}, {{{_to(('a', 1))}}}]",
        _but("b", 1, "a"),
    ),
    Rules(
        f"[{{matches: [{{headers: [{{name: x-user, value: t}}]}}], {_to(('b', 1))}}}, {{{_to(('a', 1))}}}]",
        _but("b", 2, "a"),
    ),
    Rules(f"[{{matches: [{{path: {{type: Exact, value: /}}}}], {_to(('a', 1))}}}]", _but("a", 0, "404")),
)


class History:
    """The rules one after another: of index ``acknowledged`` in force, up to ``written`` maybe."""

    def __init__(self, first: Rules) -> None:
        self.rules = [first]
        self.acknowledged = 0
        self.over = False

    @property
    def written(self) -> int:
        return len(self.rules) - 1


def _right(several: list[Rules], kind: int) -> frozenset[str]:
    """How a request may be answered while these rules follow each other.

    A route and the endpoints that it leads to are two resources, of which one comes first.
    """
    web = frozenset[str]().union(*(rules.web for rules in several))
    found = frozenset[str]().union(*(rules.answers[kind] for rules in several))
    return found - {"web"} | web if "web" in found else found


class Client:
    """Sends requests on one connection, one after another, and judges the answers."""

    def __init__(self, pod: Namespace, history: History, seed: int) -> None:
        self._pod = pod
        self._history = history
        self._random = random.Random(seed)
        self.faults: list[str] = []
        self.answers: Counter[str] = Counter()

    def run(self) -> None:
        with self._pod.entered():
            sock = socket.create_connection((VIP, 80), 20)
        try:
            with sock:
                while not self._history.over and not self.faults:
                    self._exchange(sock)
        except (OSError, EOFError) as error:
            self.faults.append(repr(error))

    def _exchange(self, sock: socket.socket) -> None:
        history = self._history
        kind = self._random.randrange(len(PATHS))
        field = b"x-user: t\r\n" if kind == 2 else b""
        begun_under = history.acknowledged
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: web\r\n%b\r\n" % (PATHS[kind].encode(), field))
        head, body, _ = read_response(sock)
        ended_under = history.written
        status = head[9:12].decode()
        answer = body.decode() if status == "200" else status
        self.answers[answer] += 1
        if answer not in _right(history.rules[begun_under : ended_under + 1], kind):
            around = [rules.manifest() for rules in history.rules[max(0, begun_under - 1) : ended_under + 1]]
            self.faults.append(
                f"{PATHS[kind]} was answered by {answer} under change {begun_under} to {ended_under}. "
                f"The change before, and these:\n{'---'.join(around)}"
            )


def _script(name: str) -> Server:
    answer = ok(name.encode(), DATE)
    slow = random.Random(name)

    def script(sock: socket.socket) -> None:
        while True:
            receive_head(sock)
            if slow.random() < 0.01:
                time.sleep(0.01)  # so that some are under way when the rules change
            sock.sendall(answer)

    return Server(script, SERVERS[name], PORT)


@contextlib.contextmanager
def _servers(pod: Namespace) -> Iterator[None]:
    with contextlib.ExitStack() as stack, pod.entered():
        for name in SERVERS:
            stack.enter_context(contextlib.closing(_script(name)))
        yield


def _is_acknowledged(plane: Control) -> bool:
    """Whether the one client has all of the newest resources, and has confirmed all of it."""
    (stream,) = plane.server.streams
    machine = stream.machine
    assert isinstance(machine, DeltaStream)
    return all(
        not subscription.outstanding
        and {name: version for name, version in subscription.sent.items() if version}
        == {r.name: r.version for r in plane.resources.of(kind).values() if subscription.wants(r.name)}
        for kind, subscription in machine._subscriptions.items()
    )


async def _change(plane: Control, manifests: Path, history: History, rules: Rules) -> None:
    before = plane.resources.version
    history.rules.append(rules)
    new = manifests / "web.new"
    new.write_text(rules.manifest())
    new.rename(manifests / "web.yaml")
    await until(lambda: plane.resources.version != before and _is_acknowledged(plane), f"the ACK of {rules}")
    history.acknowledged = history.written


async def _run(manifests: Path, address: Path, pod: Namespace, seed: int) -> tuple[list[Client], int]:
    """The clients when all is over, and how many requests the kernel carried."""
    rnd = random.Random(seed)
    history = History(ALL_RULES[0])
    clients = [Client(pod, history, seed + index) for index in range(CLIENTS)]
    async with control(manifests, address) as plane:
        with await asyncio.to_thread(MeshNode, f"unix:{address}") as node:
            await asyncio.to_thread(node.enrol, "client", pod.path, POD)
            await asyncio.to_thread(node.wait_for_services, ["default/web:80"])
            await until(lambda: _is_acknowledged(plane), "the first ACK")
            threads = [threading.Thread(target=client.run) for client in clients]
            for thread in threads:
                thread.start()
            try:
                for _ in range(CHANGES):
                    others = [rules for rules in ALL_RULES if rules is not history.rules[-1]]
                    await _change(plane, manifests, history, rnd.choice(others))
                    await asyncio.sleep(rnd.choice((0, 0.02, 0.1)))
            finally:
                history.over = True
                for thread in threads:
                    await asyncio.to_thread(thread.join, 60)
            assert plane.server.nacks == 0
            return clients, KernelRecords(node.instance).carried()


def test_no_request_is_decided_by_rules_that_were_replaced(tmp_path: Path) -> None:
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "others.yaml").write_text(
        _service("a", "10.96.0.2", f"[{{addresses: [{SERVERS['a']}]}}]")
        + "---\n"
        + _service("b", "10.96.0.3", f"[{{addresses: [{SERVERS['b']}]}}]")
    )
    (manifests / "web.yaml").write_text(ALL_RULES[0].manifest())
    seed = 4
    with namespace() as pod:
        for each in (POD, *SERVERS.values()):
            pod.ip("address", "add", f"{each}/32", "dev", "lo")
        pod.ip("route", "add", "local", "10.96.0.0/16", "dev", "lo", "src", POD)
        with _servers(pod):
            clients, carried = asyncio.run(_run(manifests, tmp_path / "ads.sock", pod, seed))
    faults = [fault for client in clients for fault in client.faults]
    assert not faults, "\n".join(faults)
    answers = sum((client.answers for client in clients), Counter[str]())
    assert set(answers) == {*SERVERS, "404"}
    assert carried > sum(answers.values()) // 10
