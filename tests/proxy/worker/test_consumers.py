"""Rules for the callers of one namespace: by worker and kernel alike, as soon as they come or go."""

from __future__ import annotations

import socket

from meshd.model.routes import Forward, PathPrefix, Route, RouteMatch, WeightedCluster
from tests.proxy.worker.agent_end import WORKLOAD
from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import answering, get, ok, read_response

MINE = WORKLOAD.namespace


def only(path: str) -> tuple[Route, ...]:
    """Routes that take the requests below a path, and no others."""
    action = Forward(clusters=(WeightedCluster(name="web"),))
    return (Route(name=f"own{path}", match=RouteMatch(path=PathPrefix(path)), action=action),)


def status(client: socket.socket, path: bytes) -> int:
    client.sendall(get(path))
    return int(read_response(client)[0].split()[1])


def is_carried(bed: FastPathBed, client: socket.socket, path: bytes) -> bool:
    """Whether the kernel carries requests that are like one that the proxy has had; all are answered 200."""
    assert status(client, path) == 200
    before = bed.carried(client).requests
    assert [status(client, path) for _ in range(5)] == [200] * 5
    return bed.carried(client).requests - before == 5


def test_an_open_connection_changes_rules_at_once(bed: FastPathBed) -> None:
    web = bed.serve(answering(ok(b"hello", DATE)))
    bed.configure([web])
    client = bed.connect()
    assert is_carried(bed, client, b"/b")
    # The rules of all others are what they were, and in force: but not for this connection any more.
    bed.configure([web], consumers={MINE: only("/a")})
    assert status(client, b"/b") == 404
    assert is_carried(bed, client, b"/a")
    assert status(client, b"/b") == 404
    bed.configure([web], consumers={MINE: only("/c")})
    assert status(client, b"/a") == 404
    assert is_carried(bed, client, b"/c")
    # What others get is none of its business, and puts nothing of its own out of force.
    bed.configure([web], consumers={MINE: only("/c"), "other": only("/z")})
    before = bed.carried(client).requests
    assert status(client, b"/c") == 200
    assert bed.carried(client).requests == before + 1
    bed.configure([web], consumers={"other": only("/z")})
    assert is_carried(bed, client, b"/b")


def test_rules_for_another_namespace_are_not_for_this_one(bed: FastPathBed) -> None:
    bed.configure([bed.serve(answering(ok(b"hello", DATE)))], consumers={"other": only("/a")})
    assert is_carried(bed, bed.connect(), b"/b")
