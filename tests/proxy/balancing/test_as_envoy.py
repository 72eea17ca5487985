"""The same config, the same request, the same endpoint as a real Envoy's."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest
from multidict import CIMultiDict

from meshd.model.cluster_policies import Balancing, Maglev, RingHash
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.request_policies import (
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSource,
    Session,
    SessionCookie,
    SessionHeader,
)
from proxy.balancing.balancer import Balancer
from proxy.balancing.hash_keys import Source, hasher
from proxy.balancing.selection import Selection
from proxy.balancing.sessions import session_edit, session_of
from proxy.requests.request_head import RequestHead
from tests.proxy.balancing.envoy_balancing import PORT, AskedEnvoy, Backend, asked_envoy

_POLICIES: tuple[Balancing, ...] = (
    RingHash(),
    RingHash(min_size=1, max_size=7),
    RingHash(min_size=100, max_size=100),
    RingHash(min_size=5000),
    Maglev(),
    Maglev(table_size=251),
    Maglev(table_size=5),
)
_HEALTHS = (Health.HEALTHY, Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY, Health.DRAINING)
_KEYS: dict[str, tuple[HashKey, ...]] = {
    "header": (HashHeader(name="x-key"),),
    "cookie": (HashCookie(name="c"),),
    "query": (HashQuery(name="q"),),
    "source": (HashSource(),),
    "several": (HashHeader(name="x-key"), HashCookie(name="c"), HashQuery(name="q")),
    "host": (HashHeader(name=":authority"),),
}
_SESSIONS: dict[str, Session] = {
    "ticket": SessionCookie(name="s", path="/ticket"),
    "lasting": SessionCookie(name="s", ttl=3600),
    "token": SessionHeader(name="x-session"),
}


def _set(name: str, *endpoints: Endpoint, overprovisioning: int = 140) -> EndpointSet:
    return EndpointSet(name=name, endpoints=endpoints, overprovisioning_percent=overprovisioning)


def _any_backend(number: int, draw: random.Random) -> Backend:
    """Some endpoints, of which a few do not serve, in up to three levels."""
    name = f"c{number}"
    priorities = draw.randint(1, 3)
    weights = draw.choice(((1,), (7,), (1, 2, 3), (1, 90), range(1, 20)))
    healths = draw.choice(((Health.HEALTHY,), _HEALTHS))
    endpoints = [
        Endpoint(
            address=f"127.0.{number}.{i + 1}",
            port=PORT,
            weight=draw.choice(weights),
            health=draw.choice(healths),
            priority=i % priorities,
        )
        for i in range(draw.randint(priorities, 15))
    ]
    draw.shuffle(endpoints)
    return Backend(
        Cluster(
            name=name,
            balancing=_POLICIES[number % len(_POLICIES)],
            panic_percent=draw.choice((0, 0, 30, 50, 100)),
        ),
        _set(name, *endpoints, overprovisioning=draw.choice((100, 140, 300))),
        keys=_KEYS["header"],
    )


_ANY = [_any_backend(number, random.Random(number)) for number in range(42)]
_SIX = tuple(Endpoint(address=f"127.1.0.{i}", port=PORT) for i in range(1, 7))
_TIED = [
    *(Backend(Cluster(name=n, balancing=RingHash()), _set(n, *_SIX), keys=k) for n, k in _KEYS.items()),
    *(Backend(Cluster(name=n), _set(n, *_SIX), session=session) for n, session in _SESSIONS.items()),
    Backend(
        Cluster(name="made", balancing=Maglev()),
        _set("made", *_SIX),
        keys=(HashCookie(name="c", path="/made", ttl=60),),
    ),
]
_BY_NAME = {backend.cluster.name: backend for backend in (*_ANY, *_TIED)}


@pytest.fixture(scope="module")
def peer() -> Iterator[AskedEnvoy]:
    with asked_envoy(tuple(_BY_NAME.values())) as asked:
        yield asked


def _head(target: str, *headers: tuple[str, str], host: str = "127.0.0.1:10000") -> RequestHead:
    path, mark, query = target.partition("?")
    return RequestHead("GET", path, query if mark else None, host, CIMultiDict(headers))


def _picked(backend: Backend, request: RequestHead) -> str:
    found = hasher(backend.keys)(request, Source("127.0.0.1", "a connection"))
    endpoint = Balancer(backend.cluster, backend.endpoints).pick(
        Selection(random.random, hash=None if found is None else found.value)
    )
    return "" if endpoint is None else endpoint.address


@pytest.mark.parametrize("backend", _ANY, ids=lambda backend: backend.cluster.name)
def test_the_same_endpoint_for_the_same_hash(peer: AskedEnvoy, backend: Backend) -> None:
    balancer = Balancer(backend.cluster, backend.endpoints)
    hashed = hasher(backend.keys)
    for i in range(25):
        header = ("x-key", f"key-{i}")
        found = hashed(_head("/", header), Source("", ""))
        assert found is not None
        endpoint = balancer.pick(Selection(random.random, hash=found.value))
        asked = peer.ask(f"/{backend.cluster.name}/", [header])
        assert asked.endpoint == ("" if endpoint is None else endpoint.address), header


@pytest.mark.parametrize(
    ("name", "query", "headers"),
    [
        ("header", "", [("x-key", "a")]),
        ("header", "", [("x-key", "")]),
        ("header", "", [("x-key", "b"), ("x-key", "a"), ("x-key", "c")]),
        ("cookie", "", [("cookie", "x=1; c=2; c=3")]),
        ("cookie", "", [("cookie", "x=1"), ("cookie", 'c="in quotes"')]),
        ("query", "?q=1&q=2", []),
        ("query", "?x=1&q", []),
        ("query", "?q=%41", []),
        ("source", "", []),
        ("several", "?q=1", [("cookie", "c=2")]),
        ("several", "?q=1", [("x-key", "3"), ("cookie", "c=2")]),
        ("host", "", []),
    ],
)
def test_a_request_is_hashed_alike(
    peer: AskedEnvoy, name: str, query: str, headers: list[tuple[str, str]]
) -> None:
    target = f"/{name}/{query}"
    assert peer.ask(target, headers).endpoint == _picked(_BY_NAME[name], _head(target, *headers))


def test_a_cookie_is_made_alike(peer: AskedEnvoy) -> None:
    backend = _BY_NAME["made"]
    told = peer.ask("/made/")
    made = hasher(backend.keys)(_head("/made/"), Source("127.0.0.1", "a connection"))
    assert made is not None
    value, separator, rest = told.headers["set-cookie"].partition(";")
    ours, _, our_rest = made.cookie.partition(";")
    assert (separator, rest) == (";", our_rest)
    assert len(value) == len(ours)
    # Whoever comes back with either one's cookie is sent to the same endpoint by both.
    for cookie, first in ((value, told.endpoint), (ours, None)):
        header = ("cookie", cookie)
        again = peer.ask("/made/", [header])
        assert again.endpoint == _picked(backend, _head("/made/", header))
        assert first in (None, again.endpoint)
        assert "set-cookie" not in again.headers


@pytest.mark.parametrize("name", _SESSIONS)
def test_either_ones_session_is_the_others_too(peer: AskedEnvoy, name: str) -> None:
    session = _SESSIONS[name]
    target = f"/{name}/"
    told = peer.ask(target)
    if isinstance(session, SessionCookie):
        theirs = ("cookie", told.headers["set-cookie"].partition(";")[0])
    else:
        theirs = (session.name, told.headers[session.name])
    assert session_of(session, _head(target, theirs), time.time()) == (told.endpoint, PORT)
    for endpoint in _SIX:
        edit = session_edit(session, target, (endpoint.address, PORT), time.time())
        if isinstance(session, SessionCookie):
            ((_, text),) = edit.add
            value, _, attributes = text.partition(";")
            assert attributes == told.headers["set-cookie"].partition(";")[2]
            ours = ("cookie", value)
        else:
            (ours,) = edit.set
        again = peer.ask(target, [ours])
        assert again.endpoint == endpoint.address
        assert not {"set-cookie", "x-session"} & again.headers.keys()
