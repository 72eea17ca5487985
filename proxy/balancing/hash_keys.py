"""What a request is hashed by, as Envoy hashes it (Http::HashPolicyImpl): XXH64 of the value's bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from xxhash import xxh64_hexdigest, xxh64_intdigest

from meshd.model.request_policies import HashCookie, HashHeader, HashKey, HashQuery, HashSource
from proxy.balancing.cookies import cookie_value, set_cookie
from proxy.requests.match import first_query_value
from proxy.requests.request_head import RequestHead


class Hash(NamedTuple):
    """A request's hash."""

    value: int
    """64 bits."""
    cookie: str = ""
    """The value of the Set-Cookie field that makes the client's next requests have it; empty: none."""


class Source(NamedTuple):
    """Where a request comes from."""

    address: str
    """The caller's."""
    connection: str
    """A text that no other connection has."""


Hasher = Callable[[RequestHead, Source], Hash | None]


def hasher(keys: tuple[HashKey, ...]) -> Hasher:
    """Hashes a request by the first of ``keys`` that it has; None where it has none."""
    methods = tuple(map(_method, keys))

    def hashed(request: RequestHead, source: Source) -> Hash | None:
        for method in methods:
            found = method(request, source)
            if found is not None:
                return found
        return None

    return hashed


def address_hash(address: bytes) -> int | None:
    """Of a connection's source (Network::HashPolicyImpl, source_ip); None where it has no address."""
    return xxh64_intdigest(address) if address else None


def _method(key: HashKey) -> Hasher:
    match key:
        case HashHeader(name="host" | ":authority"):
            return lambda request, source: _hash(request.host)
        case HashHeader(name=name):
            return lambda request, source: _header(request, name)
        case HashQuery(name=name):
            return lambda request, source: _hash(first_query_value(request.query, name))
        case HashSource():
            return lambda request, source: _hash(source.address or None)
        case HashCookie():
            return lambda request, source: _cookie(key, request, source)


def _hash(value: str | None) -> Hash | None:
    return None if value is None else Hash(xxh64_intdigest(value.encode("utf-8", "surrogateescape")))


def _header(request: RequestHead, name: str) -> Hash | None:
    """Several fields of the name count as one, whatever their order: each hash is the next one's seed."""
    values = request.headers.getall(name, ())
    if not values:
        return None
    found = 0
    for value in sorted(value.encode("utf-8", "surrogateescape") for value in values):
        found = xxh64_intdigest(value, found)
    return Hash(found)


def _cookie(key: HashCookie, request: RequestHead, source: Source) -> Hash | None:
    value = cookie_value(request.headers, key.name)
    if value:
        return _hash(value)
    if not key.ttl:
        return None
    value = xxh64_hexdigest(source.connection.encode())
    return Hash(xxh64_intdigest(value.encode()), set_cookie(key.name, value, key.path, key.ttl))
