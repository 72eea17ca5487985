"""Why no more comes of an answer that has not ended."""

from __future__ import annotations

import enum

from proxy.http1.refusal import Refusal
from proxy.upstream import failures


class Kind(enum.Enum):
    """What it means for the request."""

    CLOSED = "closed"
    """The connection ended. One that had been idle may have ended before the request came."""
    UNTOUCHED = "untouched"
    """The server says that it has done nothing with it (RFC 9113, 8.7): it may be sent
    again, whatever it is."""
    BROKEN = "broken"
    """What the server sent is no answer, or it took it back."""


class Loss:
    """One."""

    __slots__ = ("begun", "kind", "unbegun")

    def __init__(self, kind: Kind, unbegun: Refusal, begun: Refusal) -> None:
        """``unbegun``: what the client is told where no response has begun; ``begun``: where one has."""
        self.kind = kind
        self.unbegun = unbegun
        self.begun = begun


def closed(is_answering: bool = False) -> Loss:
    """The connection has ended. ``is_answering``: a byte of a response had come."""
    unbegun = failures.closed_unanswered()
    if is_answering:
        unbegun = failures.bad_response("it ended within its head")
    return Loss(Kind.CLOSED, unbegun, failures.truncated())


def broken(reason: str) -> Loss:
    """What the server sent cannot be passed on."""
    return Loss(Kind.BROKEN, failures.bad_response(reason), failures.truncated(reason))
