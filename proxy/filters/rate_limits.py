"""Which buckets a request takes a token from. Envoy's http.local_ratelimit filter.

A bucket's name is all that makes it what it is, the owner of the limit and its numbers: a bucket that a
config change leaves alone keeps its tokens, and every worker of a node means the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from meshd.model.request_policies import RateLimit, TokenBucket
from proxy.filters.token_bucket import Rate, rate

Take = Callable[[bytes, Rate], bool]
"""Takes a token from the bucket of that name (8 bytes) if there is one."""


class RateLimits:
    """A RateLimit, compiled."""

    __slots__ = ("_all", "_each_client")

    def __init__(self, limit: RateLimit, *owner: str) -> None:
        """``owner``: names what the limit is of, on this node and for good."""
        self._all = None if limit.all is None else _Named(limit.all, *owner, "all")
        self._each_client = None if limit.each_client is None else _Named(limit.each_client, *owner, "each")

    def allow(self, client: bytes, take: Take) -> bool:
        """Whether a request of a client address may go on.

        The client's bucket comes first: who is over its own limit takes nothing from the others.
        """
        each, together = self._each_client, self._all
        if each is not None and not take(each.of(client), each.rate):
            return False
        return together is None or take(together.name, together.rate)


class _Named:
    __slots__ = ("_key", "name", "rate")

    def __init__(self, bucket: TokenBucket, *owner: str) -> None:
        self.rate = rate(bucket)
        parts = (*owner, repr((bucket.tokens, bucket.interval, bucket.burst)))
        self._key = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
        self.name = self.of(b"")

    def of(self, client: bytes) -> bytes:
        return hashlib.blake2b(client, digest_size=8, key=self._key).digest()
