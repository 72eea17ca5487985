"""Peers are asked by PING whether they are there, and Http2ProtocolOptions are kept to."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import msgspec

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.http2 import Http2Options, KeepAlive
from meshd.model.listeners import HttpOptions
from proxy.http2 import nghttp2
from proxy.http2.keepalive import SILENT_SECONDS, TIMEOUT_SECONDS, Act, KeepAliveWatch, SilenceWatch
from proxy.http2.session import PREFACE
from tests.proxy.http2.pairs import SETTINGS, frame, to_http1
from tests.proxy.http2.proxied import HTTP2, Held, answer_to, proxied, status
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Http2Server
from tests.support.http_bed import FORWARD, bed, config, eventually, get

_SLOW = KeepAlive(interval=10.0, timeout=3.0, jitter_percent=50.0)


def test_questions_come_by_the_clock_and_a_random_part_of_it() -> None:
    watch = KeepAliveWatch(_SLOW, 0.0, lambda: 0.5)
    assert watch.due(12.4, False) is Act.NOTHING
    assert watch.due(12.5, False) is Act.ASK
    assert watch.due(15.4, False) is Act.NOTHING
    watch.answered(15.5)
    assert watch.due(27.9, True) is Act.NOTHING
    assert watch.due(28.0, True) is Act.ASK
    assert watch.due(31.1, True) is Act.GIVE_UP


def test_whatever_comes_while_an_answer_is_waited_for_is_a_sign_of_life() -> None:
    watch = KeepAliveWatch(_SLOW, 0.0, lambda: 0.0)
    assert watch.due(10.0, True) is Act.ASK
    watch.heard(12.0)
    assert watch.due(14.9, True) is Act.NOTHING
    assert watch.due(15.1, True) is Act.GIVE_UP


def test_an_idle_connection_is_asked_as_it_is_used_again() -> None:
    watch = KeepAliveWatch(KeepAlive(timeout=3.0, idle_interval=60.0), 0.0, lambda: 0.0)
    assert watch.due(1e6, False) is Act.NOTHING
    watch.heard(1e6)
    assert not watch.stream_begins(1e6 + 59)
    assert watch.stream_begins(1e6 + 60)
    assert not watch.stream_begins(1e6 + 61)
    assert watch.due(1e6 + 64, True) is Act.GIVE_UP


def test_a_server_is_silent_only_while_something_is_wanted_of_it() -> None:
    watch = SilenceWatch(0.0)
    assert watch.due(1e6, False) is Act.NOTHING
    assert watch.due(1e6 + SILENT_SECONDS, True) is Act.NOTHING
    at = 1e6 + SILENT_SECONDS + 1
    assert watch.due(at, True) is Act.ASK
    assert watch.due(at + TIMEOUT_SECONDS, True) is Act.NOTHING
    assert watch.due(at + TIMEOUT_SECONDS + 1, True) is Act.GIVE_UP
    watch.heard(at + TIMEOUT_SECONDS + 1)
    assert watch.due(at + TIMEOUT_SECONDS + 2, True) is Act.NOTHING


def _asking(timeout: float) -> Http2Options:
    return Http2Options(keepalive=KeepAlive(interval=0.001, timeout=timeout))


def _frames(sock: socket.socket, of_client: bool = False) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and payload of each that comes, to the connection's end."""
    with contextlib.suppress(ConnectionResetError), sock.makefile("rb") as stream:
        if of_client:
            assert stream.read(len(PREFACE)) == PREFACE
        while header := stream.read(9):
            yield header[3], header[4], stream.read(int.from_bytes(header[:3]))


def _settings(payload: bytes) -> dict[int, int]:
    return dict(struct.iter_unpack(">HI", payload))


def test_a_client_that_answers_is_asked_again_and_one_that_does_not_is_given_up() -> None:
    for timeout, answers in ((60.0, True), (0.2, False)):
        options = HttpOptions(http2=_asking(timeout))
        with bed(to_http1(1, (FORWARD,), options)) as proxy, proxy.connect() as sock:
            sock.sendall(PREFACE + SETTINGS)
            asked = 0
            for kind, flags, payload in _frames(sock):
                if kind == nghttp2.PING and not flags:
                    asked += 1
                    if asked == 3:
                        break
                    if answers:
                        sock.sendall(frame(nghttp2.PING, 1, 0, payload))
            assert asked == (3 if answers else 1)
            assert proxy.counter("downstream_http2_keepalive_timeouts_total") == (not answers)


def test_a_server_that_answers_is_asked_again_and_one_that_does_not_is_given_up() -> None:
    """Also while it has no requests; and what is out on a connection that is given up fails."""
    told: dict[int, int] = {}
    asked = threading.Semaphore(0)

    def answering_questions(sock: socket.socket) -> None:
        sock.sendall(SETTINGS)
        for kind, flags, payload in _frames(sock, True):
            if kind == nghttp2.PING and not flags:
                sock.sendall(frame(nghttp2.PING, 1, 0, payload))
                asked.release()
            elif kind == nghttp2.SETTINGS and not flags:
                told.update(_settings(payload))

    def silent(sock: socket.socket) -> None:
        Http2Server(sock).drop()

    for script, timeout in ((answering_questions, 60.0), (silent, 0.2)):
        options = msgspec.structs.replace(_asking(timeout), stream_window=100_000)
        cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, http2=options)
        with proxied(script, cluster=cluster) as (proxy, _), proxy.connect() as client:
            client.sendall(get())
            if script is silent:
                assert status(answer_to(client)) == 503
                assert proxy.counter("upstream_http2_keepalive_timeouts_total") >= 1
            else:
                assert all(asked.acquire(timeout=60) for _ in range(3))
                assert told[nghttp2.SETTINGS_INITIAL_WINDOW_SIZE] == 100_000
                assert proxy.counter("upstream_http2_keepalive_timeouts_total") == 0


_OPTIONS = Http2Options(max_streams=7, stream_window=100_000, connection_window=200_000)


def test_what_a_client_is_told() -> None:
    """Those that stand are drained when that changes, as they were told otherwise."""
    delta = to_http1(1, (FORWARD,), HttpOptions(http2=_OPTIONS))
    with bed(delta) as proxy, Http2Client(proxy.connect(), greet=False) as client:
        client.sock.sendall(PREFACE + SETTINGS)
        told: dict[int, int] = {}
        for kind, flags, payload in _frames(client.sock):
            if kind == nghttp2.SETTINGS and not flags:
                told = _settings(payload)
                assert told[nghttp2.SETTINGS_MAX_CONCURRENT_STREAMS] == 7
                assert told[nghttp2.SETTINGS_INITIAL_WINDOW_SIZE] == 100_000
            elif kind == nghttp2.WINDOW_UPDATE:
                assert payload == struct.pack(">I", 200_000 - 65_535)
                break
        assert told
        with Http2Client(proxy.connect()) as other:
            other.until(lambda: other.session.max_streams == 7)
            proxy.apply(to_http1(1, (FORWARD,), HttpOptions()))
            other.until(lambda: other.goaways)
            with Http2Client(proxy.connect()) as later:
                later.until(lambda: later.session.max_streams == 1024)


def test_what_a_server_is_told_and_how_many_streams_it_gets() -> None:
    """It would take more of them. By other options it gets another connection."""
    held = Held()
    cluster = Cluster(
        name="web", http_version=HttpVersion.HTTP2, http2=msgspec.structs.replace(_OPTIONS, max_streams=1)
    )
    with (
        proxied(held.script, cluster=cluster) as (proxy, (web,)),
        proxy.connect() as first,
        proxy.connect() as second,
    ):
        first.sendall(get())
        eventually(lambda: len(held.waiting) == 1)
        second.sendall(get())
        eventually(lambda: len(held.waiting) == 2)
        assert web.connections == 2
        proxy.apply(config((web.port,), cluster=HTTP2, generation=2))
        with proxy.connect() as third:
            third.sendall(get())
            eventually(lambda: len(held.waiting) == 3)
            assert web.connections == 3
            for client in (first, second, third):
                held.answer()
                assert status(answer_to(client)) == 200
        eventually(lambda: proxy.caller.connections() == 1)
