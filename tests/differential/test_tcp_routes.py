"""TCP connections through meshd and through Envoy: the same server and bytes, or the same end without any."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute
from tests.differential.cases import EMPTY
from tests.differential.world import ONE, REFUSING, TWO, World
from tests.proxy.tcp.tcp_bed import hello
from tests.proxy.tls.test_client_hello import message, records, server_name


def _route(name: str, cluster: str, *names: str) -> TcpRoute:
    clusters = (WeightedCluster(name=cluster),)
    return TcpRoute(name=f"diff/{name}/0", server_names=names, clusters=clusters)


NAMED = (
    _route("exact", ONE, "a.example", "x.b.example"),
    _route("near", TWO, "*.b.example"),
    _route("far", ONE, "*.example"),
    _route("refused", REFUSING, "refused.example"),
    _route("empty", EMPTY, "empty.example"),
    _route("nowhere", "unresolved/diff", "nowhere.example"),
)


class Ports(NamedTuple):
    named: int
    """Names only."""
    default: int
    """Names, and a way for the rest."""
    shares: int
    """No names, half of the connections to nowhere."""


@pytest.fixture(scope="module")
def ports(both: World) -> Ports:
    half = TcpRoute(
        name="diff/half/0", clusters=(WeightedCluster(name=TWO), WeightedCluster(name="unresolved/diff"))
    )
    return Ports(*both.serve_tcp([NAMED, (_route("exact", ONE, "a.example"), _route("rest", TWO)), (half,)]))


NAMES = ("a.example", "A.Example", "x.b.example", "y.b.example", "z.y.b.example", "b.example", "c.example",
         "refused.example", "empty.example", "nowhere.example", "example", "a.example.org", None)  # fmt: skip
FIRST_BYTES = {
    "http": b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
    "five bytes": b"hello",  # Envoy decides by no fewer
    "alert": b"\x15\3\1\0\2\2\x28",
    "ssl 2": b"\x80\x2e\x01\x03\x01" + bytes(43),
    "no extensions": records(message(None)),
    "small records": records(message([server_name(b"a.example")]), 1, 2, 3, 50),
    "more after it": records(message([server_name(b"a.example")])) + b"\x17\3\3\0\1x",
    "two names": records(message([server_name(b"a.example"), server_name(b"b.example")])),
    "empty name": records(message([server_name(b"")])),
    "name with a zero": records(message([server_name(b"a.exam\0ple")])),
    "another kind of name": records(message([server_name(b"a.example", kind=1)])),
    "empty server_name": records(message([(0, b"")])),
    "several kinds": records(message([(0x1A1A, b""), server_name(b"a.example"), (21, bytes(400))])),
    "server hello": records(b"\2" + message()[1:]),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_to_the_same_server(both: World, ports: Ports, name: str | None) -> None:
    sent = hello(name)
    for port in ports[:2]:
        answers = both.stream(port, sent)
        assert answers["meshd"] == answers["Envoy"]


@pytest.mark.parametrize("kind", FIRST_BYTES)
def test_first_bytes_mean_the_same(both: World, ports: Ports, kind: str) -> None:
    for port in ports[:2]:
        answers = both.stream(port, FIRST_BYTES[kind])
        assert answers["meshd"] == answers["Envoy"]


def test_what_is_compared_is_not_all_the_same(both: World, ports: Ports) -> None:
    assert both.stream(ports.named, hello("a.example"))["meshd"].startswith(ONE.encode())
    assert both.stream(ports.named, hello("y.b.example"))["meshd"].startswith(TWO.encode())
    assert both.stream(ports.named, hello("a.example.org"))["meshd"] == b""
    assert both.stream(ports.default, b"hello")["meshd"].startswith(TWO.encode())


def test_a_share_that_leads_nowhere_breaks(both: World, ports: Ports) -> None:
    # All alike once in 2**63 runs.
    answers = [both.stream(ports.shares, b"x") for _ in range(64)]
    for proxy in both.proxies:
        assert {answer[proxy][: len(TWO)] for answer in answers} == {b"", TWO.encode()}
