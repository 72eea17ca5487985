"""Slow start: a new endpoint's weight grows over a window."""

from __future__ import annotations

from meshd.model.cluster_policies import SlowStart
from meshd.model.clusters import Endpoint
from meshd.model.levels import Address

_LEAST_AGE = 0.001
"""Seconds (EdfLoadBalancerBase::applySlowStartFactor)."""


def factor(config: SlowStart, age: float) -> float:
    """What the weight of an endpoint that has been healthy for ``age`` seconds is multiplied by, up to 1.

    Envoy's formula (Cluster.SlowStartConfig).
    """
    if age >= config.window:
        return 1.0
    share: float = (max(_LEAST_AGE, age) / config.window) ** (1.0 / config.aggression)
    return min(1.0, max(share, config.min_weight_percent / 100.0))


class Newcomers:
    """The endpoints that are in their window, and since when."""

    __slots__ = ("_config", "_since", "until")

    def __init__(self, config: SlowStart, since: dict[Address, float]) -> None:
        """``since``: when each of them began to be healthy, by the clock that ``factor`` is asked by."""
        self._config = config
        self._since = since
        self.until = max(since.values(), default=float("-inf")) + config.window
        """When the last of them is new no more."""

    def factor(self, endpoint: Endpoint, now: float) -> float:
        """What an endpoint's weight is multiplied by."""
        since = self._since.get((endpoint.address, endpoint.port))
        return 1.0 if since is None else factor(self._config, now - since)

    def still_new(self, now: float) -> dict[Address, float]:
        """Those of now."""
        return {address: since for address, since in self._since.items() if now - since < self._config.window}
