"""What a pick among endpoints is made by."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from meshd.model.levels import Address

Random = Callable[[], float]
"""Uniform in [0, 1)."""


class Selection(NamedTuple):
    """One request's wishes and luck."""

    random: Random
    now: float = 0.0
    """Seconds, of the clock that the balancer was made by."""
    ipv6: bool = False
    """Whether the caller called an IPv6 address."""
    hash: int | None = None
    """Of the request, 64 bits; None: it has nothing that it is hashed by."""
    wanted: Address | None = None
    """The endpoint that the request's session is with."""
    excluded: Collection[Address] = ()
    """Endpoints that have failed it already."""
