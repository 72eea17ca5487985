"""The agent's ADS client: delta xDS over gRPC, feeding decoded config to the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from meshd.model.snapshot import Delta
from meshd.model.status import ConfigStatus

OnChange = Callable[[Delta, ConfigStatus], Awaitable[None]]
"""Puts a change into force. The delta's generation is 0: the receiver numbers it. Empty deltas come when only
the status changed. The response is ACKed when it returns; ``NotAppliedError`` NACKs it."""


class NotAppliedError(Exception):
    """Raised by ``OnChange``: the change is not in force, and why. The next change contains it again."""


class AdsClient:
    """Keeps an ADS stream to one control plane until it is cancelled."""

    def __init__(self, target: str, node_id: str, metadata: Mapping[str, str], on_change: OnChange) -> None:
        self.target = target
        self.node_id = node_id
        self.metadata = metadata
        self.on_change = on_change

    async def run(self) -> None:
        """Run until cancelled."""
