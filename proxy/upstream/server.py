"""What an exchange needs of who answers its request: an HTTP/1.1 connection, or a stream of another protocol.

A body goes through in its sender's framing, which its head tells (``length``, see proxy/http1/body.py); who
sends it on in another one takes it apart. So HTTP/1.1 to HTTP/1.1 is passed on as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.http1.field_values import Field
from proxy.http1.response_parser import Response
from proxy.upstream.loss import Loss
from proxy.upstream.outgoing import Outgoing


class User(Protocol):
    """Who has a server for the time of a request and its answer. It hears nothing after it has left."""

    def upstream_interim(self, response: Response) -> None:
        """A 1xx response, which another one follows."""

    def upstream_responds(self, response: Response, data: bytes, at: int) -> None:
        """The final response; ``data`` from ``at`` on begins its body."""

    def upstream_data(self, data: bytes) -> None:
        """More of the body."""

    def upstream_end(self, trailers: Sequence[Field]) -> bool:
        """The server sends no more. Whether that ends the response is the body's to say, where it is framed.

        ``trailers``: of a body that is CONTENT. True keeps our direction open.
        """

    def upstream_lost(self, loss: Loss) -> None:
        """No more comes, and it has not ended. The server has been left already."""

    def upstream_write_paused(self) -> None:
        """The server does not keep up."""

    def upstream_write_resumed(self) -> None:
        """The server has caught up."""


class Keeper(Protocol):
    """Who may keep a connection whose request has ended well, for its own next one."""

    def keep(self, server: Server) -> bool:
        """False: it is not wanted."""


class Server(Protocol):
    """For one request."""

    reused: bool
    """The connection has carried another one before."""
    write_paused: bool
    """What is written waits; there is a bound to it only if no more is written."""

    @property
    def is_answering(self) -> bool:
        """Whether a byte of a response has come."""

    # -- the request ---------------------------------------------------------------------------------

    def send(self, user: User, request: Outgoing, body: bytes) -> None:
        """Send the request's head and what has come of its body; its answer is ``user``'s."""

    def write(self, data: bytes) -> None:
        """More of the body, or of a tunnel's bytes."""

    def end(self, trailers: Sequence[Field]) -> None:
        """The end of a body that is CONTENT."""

    def write_eof(self) -> None:
        """The end of what a tunnel's client sends."""

    # -- the answer ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Let the server wait: the client does not keep up."""

    def release(self) -> None:
        """Let it go on."""

    # -- the end -------------------------------------------------------------------------------------

    def finish(self, is_clean: bool, keeper: Keeper | None) -> None:
        """The answer has ended. What is written still goes out.

        ``is_clean``: the request has, too, and nothing else came. ``keeper``: None: it goes back to its pool.
        """

    def leave(self) -> None:
        """Nobody wants the answer, or the rest of it."""

    def local_address(self) -> str:
        """``address:port`` of our end; for the log."""
