"""Which of a flow's upstream connections the kernel may use, each by its weight. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MAX_CONNECTIONS = 8
"""Of one flow."""

Address = tuple[str, int]


class Own(NamedTuple):
    """A connection that a flow has."""

    cluster: str
    endpoint: Address


class Missing(NamedTuple):
    """Endpoints of a cluster that a flow has no connection to: the kernel passes up what is theirs."""

    cluster: str
    weight: int
    """All of theirs."""


def plan(
    own: Sequence[Own], weights: Mapping[str, Mapping[Address, int]], room: int
) -> tuple[list[int], list[Missing]]:
    """The weight of each of ``own`` (0: its endpoint takes no more requests), and what is missing.

    ``weights``: the endpoints that may take requests, by cluster. ``room``: for so many more connections;
    with none the flow's requests are balanced over those that it has.
    """
    shares = [weights.get(each.cluster, {}).get(each.endpoint, 0) for each in own]
    if room <= 0:
        return shares, []
    had: dict[str, int] = {}
    for each, share in zip(own, shares, strict=True):
        if share:
            had[each.cluster] = had.get(each.cluster, 0) + share
    rest = ((cluster, sum(weights[cluster].values()) - weight) for cluster, weight in had.items())
    return shares, [Missing(cluster, weight) for cluster, weight in rest if weight > 0]
