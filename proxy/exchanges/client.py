"""What an exchange needs of who sent its request: an HTTP/1.1 connection, or a stream of another protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.http1.field_values import Field
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.in_force import ListenerState
from proxy.requests.header_edit import Edit
from proxy.runtime import Runtime
from proxy.upstream.caller import Caller
from proxy.upstream.pool import Pool
from proxy.upstream.server import Keeper, Server


class Relay(Protocol):
    """A response's way to the client, in the client's framing."""

    keep_alive: bool
    """Whether the client may send another request after it."""
    done: bool
    passed: int
    """Bytes of body so far, as the server framed them: by the response's ``length``."""
    surplus: bool
    """Whether the server sent bytes beyond the response."""

    def pass_on(self, data: bytes, at: int) -> bytes:
        """What the client gets for ``data`` from ``at`` on; first of all, the head. Raises BodyError."""

    def end(self, trailers: Sequence[Field]) -> bytes | None:
        """The server sends no more: what completes the response; None: it is cut off.

        ``trailers``: of a body that is CONTENT, which is complete; another one tells its end and them itself.
        """


class Origin(Protocol):
    """Where requests come from."""

    runtime: Runtime
    caller: Caller
    listener: ListenerState
    local: str
    """The address that it called, for the log; ``remote``: its own."""
    remote: str
    ipv6: bool
    """Whether it called an IPv6 address."""


class Client(Origin, Keeper, Protocol):
    """Has one exchange at a time. What is written goes out in its order."""

    eof: bool
    """It has sent its last byte."""
    write_paused: bool
    """It does not keep up with what is written."""

    def forwarded_for(self) -> bytes:
        """The caller's address for x-forwarded-for."""

    # -- connections to servers that are its own -----------------------------------------------------

    def own_connection(self, pool: Pool) -> Server | None:
        """One to the pool's endpoint, idle, for its request; None: it has none."""

    # -- the response --------------------------------------------------------------------------------

    def interim(self, request: Request, response: Response) -> None:
        """Send a 1xx response that is not the last."""

    def begin(self, request: Request, response: Response, edit: Edit) -> Relay:
        """The final response begins; its head is the relay's first bytes."""

    def switch(self, response: Response, edit: Edit) -> Relay:
        """The connection changes protocols (101); what follows the head are bytes without an end."""

    def answer(
        self, request: Request, request_done: bool, status: int, headers: Headers, body: bytes
    ) -> None:
        """A whole response of the proxy's own, which ends the exchange.

        ``request_done``: the request's last byte has come; else no other request can follow it.
        """

    def write(self, data: bytes) -> None:
        """Send what a relay made."""

    def write_eof(self) -> None:
        """No more comes."""

    def request_goes_on(self) -> None:
        """What was taken for the next request belongs to the exchange: it has become a tunnel."""

    def exchange_ended(self, keep_alive: bool, last: bytes) -> None:
        """The exchange has ended but for the response's ``last`` bytes, which are still to be written.

        ``keep_alive``: another request may follow.
        """

    def cut(self) -> None:
        """The response cannot be completed, and the client must see that."""

    # -- backpressure --------------------------------------------------------------------------------

    def hold_for_upstream(self) -> None:
        """Do not read: the server's side cannot take more."""

    def release_for_upstream(self) -> None:
        """The server's side can take more."""


Headers = tuple[tuple[str, str], ...]
"""Names in lower case, and values."""
