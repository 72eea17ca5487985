"""Each answer of an endpoint that may be ejected is told of once: by the kernel, or by the worker."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from meshd.datapath.counts.answers import CarriedAnswers
from meshd.model.cluster_policies import Outlier
from meshd.model.clusters import Cluster
from meshd.model.outcomes import EndpointTally
from meshd.model.routes import Forward, Route, WeightedCluster
from meshd.model.wire import Outcomes
from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.proxy.worker.test_fast_path import PLACES, PLAIN, scripted
from tests.support.http_bed import Script, Server, get, ok, read_response, receive_all

BAD = PLAIN.replace(b"200 OK", b"500 no")
UNDATED = ok().replace(b"200 OK", b"502 no")
CUT = b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\nContent-Length: 10\r\n\r\nhalf"
POST = get().replace(b"GET", b"POST")


@pytest.fixture
def answers(bed: FastPathBed) -> Iterator[CarriedAnswers]:
    datapath = bed.mesh.datapath
    made = CarriedAnswers(datapath.open_map("judged"), datapath.open_map("bells"), datapath.layout)
    with contextlib.closing(made):
        yield made
        made.follow(())


def _judged(
    bed: FastPathBed, answers: CarriedAnswers, script: Script, far: bool, timeout: float = 0.0
) -> tuple[Server, socket.socket]:
    """The service's only server, and a client whose first request has been answered."""
    web = bed.serve(script, far)
    action = Forward(clusters=(WeightedCluster(name="web"),), timeout=timeout)
    route = Route(name="default/web/0", action=action)
    bed.configure([web], (route,), cluster=Cluster(name="web", outlier=Outlier(consecutive_5xx=1)))
    answers.follow([("web", web.address, web.port)])
    client = bed.connect()
    client.sendall(get())
    read_response(client)
    assert _by_worker(bed) == (1, 1, 1, 0)
    return web, client


def _sums(told: EndpointTally) -> tuple[int, int, int, int]:
    """Requests, those that were answered, well, and the gateway errors in a row."""
    tally = told.tally
    return tally.requests, tally.answers, tally.successes, tally.gateway.last


def _by_worker(bed: FastPathBed) -> tuple[int, int, int, int]:
    (told,) = bed.agent.receive(Outcomes)[0].endpoints
    return _sums(told)


@PLACES
def test_what_is_carried_is_the_kernels_to_tell(bed: FastPathBed, answers: CarriedAnswers, far: bool) -> None:
    _, client = _judged(bed, answers, scripted(PLAIN, PLAIN, BAD, UNDATED, PLAIN), far)
    for status in (200, 500):
        client.sendall(get())
        assert read_response(client)[0].startswith(b"HTTP/1.1 %d " % status)
    assert bed.carried(client).responses == 2
    assert [_sums(each) for each in answers.news()] == [(2, 2, 1, 0)]
    client.sendall(get())
    assert read_response(client)[0].startswith(b"HTTP/1.1 502 ")
    assert _by_worker(bed) == (1, 1, 0, 1)
    assert list(answers.news()) == []
    assert bed.carried(client).requests == 3


@PLACES
@pytest.mark.parametrize("request_head", [get(), POST], ids=["sent-again", "not-sent-again"])
def test_a_server_that_closes_without_an_answer(
    bed: FastPathBed, answers: CarriedAnswers, far: bool, request_head: bytes
) -> None:
    """A request that is sent again is not the endpoint's fault, as it is not on the slow path."""
    _, client = _judged(bed, answers, scripted(PLAIN, None), far)
    client.sendall(request_head)
    head = read_response(client)[0]
    if request_head == POST:
        assert head.startswith(b"HTTP/1.1 503 ")
        assert _by_worker(bed) == (1, 0, 0, 1)
    else:
        assert head.startswith(b"HTTP/1.1 200 ")
        assert _by_worker(bed) == (1, 1, 1, 0)
    assert list(answers.news()) == []


@PLACES
def test_an_answer_that_breaks_off_counts_twice_as_in_envoy(
    bed: FastPathBed, answers: CarriedAnswers, far: bool
) -> None:
    web, client = _judged(bed, answers, scripted(PLAIN, then=CUT), far)
    client.sendall(get())
    with contextlib.suppress(ConnectionResetError):
        receive_all(client)
    assert _by_worker(bed) == (1, 0, 0, 1)
    told = list(answers.news([("web", web.address, web.port)]))
    assert [_sums(each) for each in told] == [(1, 1, 1, 0)]


@PLACES
def test_a_carried_request_that_is_not_answered_in_time(
    bed: FastPathBed, answers: CarriedAnswers, far: bool
) -> None:
    def script(sock: socket.socket) -> None:
        scripted(PLAIN)(sock)
        sock.recv(1)  # nothing more, until the proxy closes

    _, client = _judged(bed, answers, script, far, timeout=0.2)
    client.sendall(get())
    assert read_response(client)[0].startswith(b"HTTP/1.1 504 ")
    assert _by_worker(bed) == (1, 0, 0, 1)
    assert list(answers.news()) == []
