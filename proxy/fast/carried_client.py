"""What the fast path needs of the client connection whose requests the kernel carries."""

from __future__ import annotations

from typing import Protocol

from proxy.exchanges.client import Client
from proxy.exchanges.exchange import Exchange


class CarriedClient(Client, Protocol):
    """An HTTP/1.1 connection from a client."""

    received: int
    """Bytes of the client's, in all; ``written``: bytes to it."""
    written: int

    def settled(self) -> None:
        """The kernel carries no request any more."""

    def is_idle(self) -> bool:
        """Whether no request of the proxy's is under way; the kernel may carry one."""

    def is_waiting(self) -> bool:
        """Whether bytes or the end of what the client sends wait for the kernel's last answer."""

    def active_at(self, when: float) -> None:
        """The kernel carried a request at ``when``, by the loop's clock."""

    def adopt(self, exchange: Exchange) -> None:
        """A request that the kernel carried is the proxy's now."""

    def end_after_answer(self) -> None:
        """The client has had its last answer; what it still sends is not read as a request."""

    def close(self) -> None:
        """Close after what waits has been sent; what the client asked for is cancelled."""
