"""How endpoints answered what the kernel carried, as who ejects them is told. Real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.agent.health.health import EndpointHealth
from meshd.agent.health.marks import By
from meshd.datapath.counts.answers import CarriedAnswers, JudgedEndpoint
from meshd.datapath.datapath import Datapath
from meshd.model.cluster_policies import Outlier
from meshd.model.outcomes import EndpointTally, Tally
from tests.control.running import until
from tests.datapath import carried
from tests.datapath.carried import GET, NAME, OK, SERVER_ADDRESS, Bed, Connection, exactly
from tests.datapath.mesh import Mesh

DATED = b"Date: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"
FAILED = b"HTTP/1.1 500 no\r\n" + DATED
GATEWAY = b"HTTP/1.1 503 no\r\n" + DATED
MISSING = b"HTTP/1.1 404 no\r\n" + DATED
PLACES = pytest.mark.parametrize("remote", [False, True], ids=["here", "remote"])


@pytest.fixture
def bed(datapath: Datapath, mesh: Mesh) -> Iterator[Bed]:
    """Its cluster ejects endpoints."""
    with carried.bed(datapath, mesh) as made:
        datapath.configure(60.0, fast_path=True)
        made.configure(outlier=Outlier())
        yield made
        datapath.configure(60.0, fast_path=False)


def _answers(bed: Bed) -> CarriedAnswers:
    datapath = bed.datapath
    return CarriedAnswers(datapath.open_map("judged"), datapath.open_map("bells"), datapath.layout)


@pytest.fixture
def answers(bed: Bed) -> Iterator[CarriedAnswers]:
    with contextlib.closing(_answers(bed)) as made:
        yield made
        made.follow(())


def _server(bed: Bed) -> JudgedEndpoint:
    return (NAME, SERVER_ADDRESS, bed.listener.getsockname()[1])


def _told(answers: CarriedAnswers, *of: JudgedEndpoint) -> list[tuple[int, int, int, int]]:
    """Requests, good ones, and the errors and gateway errors in a row at the end, of each tally."""
    return [
        (each.tally.requests, each.tally.successes, each.tally.errors.last, each.tally.gateway.last)
        for each in answers.news(of)
    ]


def _armed(bed: Bed, remote: bool = False) -> Connection:
    connection = Connection(bed, remote=remote)
    connection.arm()
    return connection


@PLACES
def test_bad_answers_are_told_with_the_good_ones_between_them(
    bed: Bed, answers: CarriedAnswers, remote: bool
) -> None:
    answers.follow([_server(bed)])
    connection = _armed(bed, remote)
    for answer in (OK, MISSING, FAILED, GATEWAY, OK, FAILED):
        connection.exchange(GET, answer)
    assert connection.carried().responses == 6
    assert select.select([answers.fd], [], [], 5)[0]
    assert _told(answers) == [(3, 2, 1, 0), (1, 0, 1, 1), (2, 1, 1, 0)]
    assert not select.select([answers.fd], [], [], 0)[0]
    assert _told(answers, _server(bed)) == [(0, 0, 0, 0)], "only how long the good ones took"
    assert _told(answers, _server(bed)) == []
    connection.exchange()
    assert _told(answers) == []
    assert _told(answers, _server(bed)) == [(1, 1, 0, 0)]


def test_what_the_answers_took_is_told(bed: Bed, answers: CarriedAnswers) -> None:
    answers.follow([_server(bed)])
    connection = _armed(bed)
    for answer in (OK, FAILED):
        connection.client.sendall(GET)
        exactly(connection.server, len(GET))
        assert not select.select([answers.fd], [], [], 0.05)[0]
        connection.server.sendall(answer)
        exactly(connection.client, len(answer))
    tallies = [each.tally for each in answers.news([_server(bed)])]
    assert sum(each.answers for each in tallies) == 2
    assert 0.1 <= sum(each.seconds for each in tallies) < 5


def test_an_endpoint_that_is_not_judged_is_the_proxys(bed: Bed, answers: CarriedAnswers) -> None:
    connection = _armed(bed)
    connection.slow()
    answers.follow([_server(bed)])
    connection.arm()
    connection.exchange()
    answers.follow([])
    connection.slow()
    assert connection.carried().requests == 1


def test_the_next_agent_begins_with_what_comes_then(bed: Bed) -> None:
    with contextlib.closing(_answers(bed)) as first:
        first.follow([_server(bed), (NAME, "fd00::7", 80)])
        connection = _armed(bed)
        connection.exchange()
        connection.exchange(GET, FAILED)
    connection.exchange()  # while there is none
    connection.exchange(GET, FAILED)
    with contextlib.closing(_answers(bed)) as second:
        second.follow([_server(bed)])
        assert _told(second, _server(bed)) == []
        connection.exchange()
        connection.exchange(GET, FAILED)
        assert _told(second) == [(2, 1, 1, 0)]
        second.follow([])
        with contextlib.closing(bed.datapath.open_map("judged")) as judged:
            assert list(judged) == []


def test_bad_answers_that_nobody_takes_are_counted(bed: Bed, answers: CarriedAnswers) -> None:
    answers.follow([_server(bed)])
    connection = _armed(bed)
    layout = bed.datapath.layout
    room = layout.maps["bell"].max_entries // (8 + layout.structs["bad_answer"].size)
    before = bed.datapath.counters()["answers_unheard"]
    for _ in range(room + 2):
        connection.exchange(GET, FAILED)
    unheard = bed.datapath.counters()["answers_unheard"] - before
    assert unheard > 0
    assert len(list(answers.news())) == room + 2 - unheard
    connection.exchange(GET, GATEWAY)
    assert _told(answers) == [(1, 0, 1, 1)]


def test_an_endpoint_is_ejected_by_what_workers_and_kernel_saw(bed: Bed, tmp_path: Path) -> None:
    """Four errors in a row, with one good answer of the kernel's between those of the worker."""
    bed.configure(outlier=Outlier(consecutive_5xx=4))
    connection = _armed(bed)

    async def scenario() -> None:
        health = EndpointHealth(tmp_path / "health.msgpack", _answers(bed))
        running = asyncio.create_task(health.run())
        try:
            health.follow(bed.snapshot, bed.snapshot, frozenset(("demo",)))

            def worker_tells(errors: int) -> None:
                tally = Tally()
                for _ in range(errors):
                    tally.count(500, 0.01)
                health.take((EndpointTally(*_server(bed), tally),))

            worker_tells(3)
            await asyncio.to_thread(connection.exchange)
            worker_tells(3)
            assert health.marks() == {}
            await asyncio.to_thread(connection.exchange, GET, FAILED)
            await until(health.changed.is_set, "an ejection")
            (mark,) = health.marks()[NAME].values()
            assert (mark.by, mark.reason) == (
                By.EJECTION,
                "4 answers of 5xx in a row (consecutive_5xx)",
            )
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            health.close()

    asyncio.run(scenario())
