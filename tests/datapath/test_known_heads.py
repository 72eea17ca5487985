"""A head that is the last request's, byte for byte, is not read again: what it was before decides."""

from __future__ import annotations

import contextlib
import functools
import os
import select
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec

import pytest

from meshd.datapath.datapath import Datapath
from meshd.datapath.kernel.bpf_map import Map
from meshd.model.request_policies import StringMatch
from meshd.model.routes import Forward, HeaderEdit, PathPrefix, Route, RouteMatch, WeightedCluster
from tests.datapath.carried import GET, NAME, OK, Bed, Connection, exactly

FORWARD = Forward(clusters=(WeightedCluster(name=NAME),))
REST = Route(name="rest", action=FORWARD)
TESTED = Route(
    name="tested", match=RouteMatch(headers=(StringMatch(name="x-user", value="t"),)), action=FORWARD
)
ROUTES = (
    Route(
        name="edited",
        match=RouteMatch(path=PathPrefix("/b")),
        action=FORWARD,
        request_headers=HeaderEdit(set=(("a", "b"),)),
    ),
    TESTED,
    Route(name="deep", match=RouteMatch(path=PathPrefix("/a/c")), action=FORWARD),
    REST,
)
ASKED = b"GET /a/c?d HTTP/1.1\r\nHost: web:80\r\nX-User: t\r\n\r\n"
WITH_BODY = b"PUT /a/c HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi"
OTHER = b"GET /other HTTP/1.1\r\nHost: web\r\n\r\n"
FIRST_PIECE = 336
TRIES = 8
P = ParamSpec("P")


@pytest.fixture(scope="module")
def carries() -> bool:
    return True


@pytest.fixture
def asking(datapath: Datapath, beds: Bed) -> Iterator[Asking]:
    with contextlib.closing(Asking(datapath, beds)) as asking:
        yield asking


class StoodStillError(Exception):
    """The machine did nothing for a second, and the kernel leaves a connection that was so quiet alone."""


class Asking:
    """A connection that is armed, and armed again after each request that the proxy has."""

    connection: Connection

    def __init__(self, datapath: Datapath, bed: Bed) -> None:
        self._bed = bed
        self._records = Map(os.dup(datapath.worker_fds()[0]))
        self._record = datapath.layout.codec("flow", "head.known", "reason").unpack
        self._quiet = datapath.layout.enums["upcall"]["UPCALL_QUIET"]

    def begin(self) -> None:
        self._bed.configure(ROUTES)
        self.connection = Connection(self._bed)
        self.connection.arm()

    def close(self) -> None:
        self._records.close()

    def _of_record(self) -> tuple[int, int]:
        value = self._records.get(self.connection.flow)
        assert value is not None
        known, reason = self._record(value)
        return known, reason

    @property
    def known(self) -> bool:
        """Whether the last head was not read."""
        return self._of_record()[0] == 1

    def configure(self, *routes: Route) -> None:
        self._bed.configure(routes)
        self.connection.arm()

    def is_carried(self, request: bytes) -> bool:
        """Send it; to the server, or to the proxy. Raises StoodStillError."""
        it = self.connection
        it.client.sendall(request)
        ready, _, _ = select.select([it.server, it.proxy], [], [], 60)
        if it.proxy in ready and self._of_record()[1] == self._quiet:
            raise StoodStillError
        to = it.server if it.server in ready else it.proxy
        assert exactly(to, len(request)) == request
        return to is it.server

    def ask(self, request: bytes) -> int | None:
        """The route by which the kernel carried it; None: it went to the proxy."""
        it = self.connection
        if self.is_carried(request):
            it.server.sendall(OK)
            assert exactly(it.client, len(OK)) == OK
            return it.carried().route
        it.consumed += len(request)
        it.proxy.sendall(OK)
        it.written += len(OK)
        assert exactly(it.client, len(OK)) == OK
        it.arm()
        return None


def undisturbed(test: Callable[Concatenate[Asking, P], None]) -> Callable[..., None]:
    """The test, on a new connection again where the machine stood still."""

    @functools.wraps(test)
    def again(asking: Asking, *args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(TRIES):
            asking.begin()
            with contextlib.suppress(StoodStillError):
                return test(asking, *args, **kwargs)
        pytest.fail(f"the machine stood still in each of {TRIES} tries")

    return again


@undisturbed
def test_a_head_is_read_once(asking: Asking) -> None:
    for request, route in ((ASKED, 1), (OTHER, 3), (WITH_BODY, 2), (ASKED, 1)):
        assert asking.ask(request) == route
        assert not asking.known
        for _ in range(2):
            assert asking.ask(request) == route
            assert asking.known


@pytest.mark.parametrize("byte", b"bB/ \r\0")
@undisturbed
def test_a_head_that_differs_in_a_byte_is_what_it_is_after_any_other(asking: Asking, byte: int) -> None:
    for at in range(len(ASKED)):
        changed = ASKED[:at] + bytes((byte,)) + ASKED[at + 1 :]
        asking.ask(OTHER)
        expected = asking.ask(changed)
        asking.ask(OTHER)
        assert asking.ask(ASKED) == 1
        assert asking.ask(changed) == expected, changed
        assert asking.ask(ASKED) == 1, changed


@undisturbed
def test_a_head_is_read_again_under_other_rules(asking: Asking) -> None:
    assert asking.ask(ASKED) == 1
    # The same index names another route; then the field that mattered has another place; then none matters.
    another = RouteMatch(headers=(StringMatch(name="a", value="b"),))
    for routes, route in (
        ((REST, TESTED), 0),
        ((Route(name="another", match=another, action=FORWARD), TESTED, REST), 1),
        ((REST,), 0),
    ):
        asking.configure(*routes)
        assert asking.ask(ASKED) == route
        assert not asking.known
        assert asking.ask(ASKED) == route
        assert asking.known


@undisturbed
def test_a_head_that_the_proxy_had_is_not_known_to_the_kernel(asking: Asking) -> None:
    edited = b"GET /b HTTP/1.1\r\nHost: web\r\n\r\n"
    same_size = GET[:-4] + b"1\r\n\r\n"
    assert len(same_size) == len(edited)
    for _ in range(2):
        assert asking.ask(same_size) == 3
        assert asking.ask(edited) is None
        assert asking.ask(edited) is None


@undisturbed
def test_what_is_not_kept_whole_is_read_again(asking: Asking) -> None:
    posted = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 2\r\n\r\nhi"
    long = GET[:-2] + b"X: " + b"x" * (FIRST_PIECE - len(GET) - 4) + b"\r\n\r\n"
    for request in (posted, long):
        for _ in range(3):
            assert asking.ask(request) == 3
            assert not asking.known
    fits = long.replace(b"xx", b"x", 1)
    assert len(fits) == FIRST_PIECE
    assert asking.ask(fits) == 3
    assert asking.ask(fits) == 3
    assert asking.known


@undisturbed
def test_a_head_whose_body_comes_later_is_read_again(asking: Asking) -> None:
    head, body = b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\n", b"hello"
    it = asking.connection
    for _ in range(2):
        assert asking.is_carried(head)
        it.client.sendall(body)
        assert exactly(it.server, len(body)) == body
        it.server.sendall(OK)
        assert exactly(it.client, len(OK)) == OK
        assert not asking.known
