"""A worker's ring buffer, rung by the programs on real sockets."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from meshd.datapath.datapath import Datapath
from tests.datapath import carried
from tests.datapath.carried import GET, OK, Bed, Connection, exactly
from tests.datapath.mesh import Mesh

UNDATED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def bed(datapath: Datapath, mesh: Mesh) -> Iterator[Bed]:
    with carried.bed(datapath, mesh) as made:
        datapath.configure(60.0, fast_path=True)
        yield made
        datapath.configure(60.0, fast_path=False)


def _elsewhere(bed: Bed) -> Connection:
    """With a server that is not in the mesh, as one of another node is not in this one's."""
    bed.datapath.remove_member(bed.far.cookie)
    connection = Connection(bed, remote=True)
    connection.arm()
    return connection


def _is_rung(bed: Bed) -> bool:
    return bool(select.select([bed.bell.fd], [], [], 0)[0])


def _leave_to_proxy(connection: Connection) -> None:
    """A carried request whose answer is the proxy's, and what the proxy does then."""
    connection.client.sendall(GET)
    exactly(connection.server, len(GET))
    connection.server.sendall(UNDATED)
    assert exactly(connection.upstream, len(UNDATED)) == UNDATED
    connection.from_server += len(UNDATED)
    connection.proxy.sendall(UNDATED)
    assert exactly(connection.client, len(UNDATED)) == UNDATED
    connection.written += len(UNDATED)
    connection.adopted += 1


def test_it_is_rung_once_for_an_answer_that_is_the_proxys(bed: Bed) -> None:
    connection = _elsewhere(bed)
    connection.exchange()
    assert not _is_rung(bed)
    _leave_to_proxy(connection)
    assert _is_rung(bed)
    assert bed.bell.take() == [connection.connection]
    assert not _is_rung(bed)
    assert bed.bell.take() == []


def test_it_is_rung_when_a_server_closes(bed: Bed) -> None:
    connection = _elsewhere(bed)
    connection.exchange()
    connection.server.close()
    assert connection.upstream.recv(1) == b""
    assert bed.bell.take() == [connection.connection]


def test_it_is_not_rung_for_servers_of_this_node(bed: Bed) -> None:
    connection = Connection(bed)
    connection.arm()
    connection.exchange()
    _leave_to_proxy(connection)
    connection.server.close()
    assert connection.upstream.recv(1) == b""
    assert bed.bell.take() == []


def test_it_goes_round_and_round(bed: Bed) -> None:
    """More events than the ring buffer has room for, read now and then."""
    connection = _elsewhere(bed)
    room = bed.datapath.layout.maps["bell"].max_entries // 48
    rung = 0
    for i in range(room + room // 2):
        connection.arm()
        _leave_to_proxy(connection)
        if i % 100 == 0:
            taken = bed.bell.take()
            assert taken == [connection.connection] * len(taken)
            rung += len(taken)
    assert rung + len(bed.bell.take()) == room + room // 2


def test_what_finds_no_room_is_counted(bed: Bed) -> None:
    connection = _elsewhere(bed)
    room = bed.datapath.layout.maps["bell"].max_entries // 48
    before = bed.datapath.counters()["bells_full"]
    for _ in range(room + 3):
        connection.arm()
        _leave_to_proxy(connection)
    assert bed.datapath.counters()["bells_full"] - before == 3
    assert len(bed.bell.take()) == room
    connection.arm()
    connection.exchange(GET, OK)
    _leave_to_proxy(connection)
    assert bed.bell.take() == [connection.connection]


def test_a_connection_on_which_something_came_unasked_is_not_used(bed: Bed) -> None:
    connection = _elsewhere(bed)
    connection.exchange()
    connection.server.sendall(OK)
    assert exactly(connection.upstream, len(OK)) == OK
    before = connection.carried().requests
    connection.client.sendall(GET)
    assert exactly(connection.proxy, len(GET)) == GET
    assert connection.carried().requests == before
