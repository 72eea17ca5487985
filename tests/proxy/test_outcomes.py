"""What a worker tells of how requests ended: of real servers that answer, fail, and are not there."""

from __future__ import annotations

import contextlib
import socket
import threading

import msgspec
import pytest

from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import Cluster
from meshd.model.outcomes import EndpointTally, Run
from meshd.model.routes import Forward, WeightedCluster
from tests.support.http_bed import (
    FORWARD,
    Bed,
    Script,
    answering,
    by_connection,
    config,
    eventually,
    get,
    ok,
    one_answer_then,
    receive_all,
    receive_head,
    server,
)

ERROR = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
TIMEOUT = msgspec.structs.replace(
    FORWARD, action=Forward(clusters=(WeightedCluster(name="web"),), timeout=0.05)
)


class Told:
    """What the agent would have been."""

    def __init__(self) -> None:
        self.reports: list[tuple[EndpointTally, ...]] = []

    def all(self) -> list[EndpointTally]:
        return [each for report in self.reports for each in report]

    def requests(self) -> int:
        return sum(each.tally.requests for each in self.all())


def _bed(port: int, told: Told, policy: Outlier | None, timeout: bool = False) -> Bed:
    cluster = Cluster(name="web", outlier=policy)
    made = Bed(config((port,), (TIMEOUT if timeout else FORWARD,), cluster=cluster))
    made.runtime.outcomes.report = told.reports.append
    return made


def _ask(proxy: Bed, requests: int = 1) -> None:
    """One after another, each on a connection of its own."""
    for _ in range(requests):
        with proxy.connect() as client:
            client.sendall(get(b"/", b"Connection: close"))
            with contextlib.suppress(ConnectionResetError):
                receive_all(client)


def _hangs_up(sock: socket.socket) -> None:
    receive_head(sock)


def _breaks_off(sock: socket.socket) -> None:
    receive_head(sock)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")


def _speaks_nonsense(sock: socket.socket) -> None:
    receive_head(sock)
    sock.sendall(b"220 mail.example.com ESMTP\r\n\r\n")


def _never_answers(sock: socket.socket) -> None:
    receive_head(sock)
    sock.recv(1)


@pytest.mark.parametrize(
    ("script", "requests", "successes", "answers", "gateway"),
    [
        (answering(ok()), 1, 1, 1, 0),
        (answering(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"), 1, 1, 1, 0),
        (answering(ERROR), 1, 0, 1, 0),
        (answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), 1, 0, 1, 1),
        (_hangs_up, 1, 0, 0, 1),
        (_speaks_nonsense, 1, 0, 0, 1),
        (_never_answers, 1, 0, 0, 1),
        # As in Envoy: the answer's head, and then the connection that broke.
        (_breaks_off, 2, 1, 1, 1),
    ],
)
def test_how_a_request_ended(
    script: Script, requests: int, successes: int, answers: int, gateway: int
) -> None:
    told = Told()
    with server(script) as upstream:
        proxy = _bed(upstream.port, told, Outlier(), timeout=True)
        try:
            _ask(proxy)
            eventually(lambda: told.requests() == requests)
        finally:
            proxy.close()
    (each,) = told.all()
    tally = each.tally
    assert (each.cluster, each.address, each.port) == ("web", "127.0.0.1", upstream.port)
    assert (tally.successes, tally.answers, tally.gateway.last) == (successes, answers, gateway)
    assert tally.errors.last == requests - successes
    assert (tally.seconds > 0) == (answers > 0)


def test_connections_that_cannot_be_made_are_gateway_errors() -> None:
    told = Told()
    with server(answering(ok())) as upstream:
        upstream.stop_listening()
        proxy = _bed(upstream.port, told, Outlier(consecutive_5xx=3))
        try:
            _ask(proxy, 3)
            eventually(lambda: told.requests() == 3)
        finally:
            proxy.close()
    assert sum(each.tally.gateway.last for each in told.all()) == 3


def test_a_reused_connection_that_was_closed_is_nobodys_fault() -> None:
    told = Told()
    with server(one_answer_then(ok(), _hangs_up)) as upstream:
        proxy = _bed(upstream.port, told, Outlier())
        try:
            with proxy.connect() as client:
                for _ in range(3):
                    client.sendall(get())
                    receive_some(client)
            eventually(lambda: told.requests() == 3)
            assert proxy.counter("upstream_replays_total") >= 1
        finally:
            proxy.close()
    assert sum(each.tally.successes for each in told.all()) == 3


def receive_some(client: socket.socket) -> None:
    data = b""
    while not data.endswith(b"hello"):
        piece = client.recv(65536)
        assert piece, data
        data += piece


def test_who_goes_before_the_answer_tells_nothing_of_the_server() -> None:
    told = Told()
    asked = threading.Event()

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        asked.set()
        sock.recv(1)

    with server(by_connection(script, answering(ok()))) as upstream:
        proxy = _bed(upstream.port, told, Outlier())
        try:
            with proxy.connect() as client:
                client.sendall(get())
                assert asked.wait(60)
            proxy.present = False
            eventually(lambda: any(entry.flags == "DC" for entry in proxy.log.entries))
            proxy.present = True
            _ask(proxy)
            eventually(lambda: told.reports)
        finally:
            proxy.close()
    assert told.requests() == 1


def test_without_a_policy_nothing_is_told() -> None:
    told = Told()
    with server(answering(ERROR)) as upstream:
        proxy = _bed(upstream.port, told, None)
        try:
            _ask(proxy, 2)
            cluster = Cluster(name="web", outlier=Outlier())
            proxy.apply(config((upstream.port,), cluster=cluster, generation=2))
            _ask(proxy)
            eventually(lambda: told.reports)
        finally:
            proxy.close()
    assert told.requests() == 1


def test_a_row_that_ejects_is_told_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.telemetry.outcomes.REPORT_SECONDS", 1000.0)
    told = Told()
    with server(answering(ERROR)) as upstream:
        proxy = _bed(upstream.port, told, Outlier(consecutive_5xx=5))
        try:
            _ask(proxy, 4)
            assert told.reports == []
            _ask(proxy)
            eventually(lambda: told.reports)
        finally:
            proxy.close()
    (each,) = told.all()
    assert each.tally.errors == Run(first=5, last=5, most=5)
