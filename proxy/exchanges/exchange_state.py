"""The states of a downstream connection and of an exchange, and the ways between them."""

from __future__ import annotations

import enum


class ConnectionState(enum.Enum):
    """A downstream connection. It carries one exchange at a time."""

    __hash__ = object.__hash__  # members are compared by identity; Enum's own hash is Python code

    IDLE = "idle"
    """Between two requests, or before the first."""
    HEAD = "head"
    """Part of a request's head has come."""
    EXCHANGE = "exchange"
    """A request is being answered, or has become a tunnel."""
    LINGER = "linger"
    """The last response is out; what still comes is read and dropped, so that no RST overtakes it."""
    CLOSED = "closed"


class ExchangeState(enum.Enum):
    """A request and its response."""

    __hash__ = object.__hash__

    NEW = "new"
    DELAYED = "delayed"
    """The request waits, as its route's fault policy says."""
    DISPATCHED = "dispatched"
    """The request is on its way, or out; no final response has begun."""
    STREAMING = "streaming"
    """The response's head has gone to the client."""
    TUNNEL = "tunnel"
    """It has changed protocols (101): two streams of bytes, each ended by its sender."""
    ENDED = "ended"


class DispatchState(enum.Enum):
    """A request's way to a response."""

    __hash__ = object.__hash__

    NEW = "new"
    CONNECTING = "connecting"
    """An upstream connection is being made."""
    BACKOFF = "backoff"
    """It will be tried again."""
    WAITING = "waiting"
    """The request is out; no final response has come."""
    OVER = "over"


CONNECTION_WAYS: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.IDLE: frozenset(
        (ConnectionState.HEAD, ConnectionState.EXCHANGE, ConnectionState.LINGER, ConnectionState.CLOSED)
    ),
    ConnectionState.HEAD: frozenset(
        (ConnectionState.EXCHANGE, ConnectionState.LINGER, ConnectionState.CLOSED)
    ),
    ConnectionState.EXCHANGE: frozenset(
        (ConnectionState.IDLE, ConnectionState.LINGER, ConnectionState.CLOSED)
    ),
    ConnectionState.LINGER: frozenset((ConnectionState.CLOSED,)),
    ConnectionState.CLOSED: frozenset(),
}

EXCHANGE_WAYS: dict[ExchangeState, frozenset[ExchangeState]] = {
    ExchangeState.NEW: frozenset((ExchangeState.DELAYED, ExchangeState.DISPATCHED, ExchangeState.ENDED)),
    ExchangeState.DELAYED: frozenset((ExchangeState.DISPATCHED, ExchangeState.ENDED)),
    ExchangeState.DISPATCHED: frozenset((ExchangeState.STREAMING, ExchangeState.TUNNEL, ExchangeState.ENDED)),
    ExchangeState.STREAMING: frozenset((ExchangeState.ENDED,)),
    ExchangeState.TUNNEL: frozenset((ExchangeState.ENDED,)),
    ExchangeState.ENDED: frozenset(),
}

_ON_ITS_WAY = (DispatchState.CONNECTING, DispatchState.WAITING, DispatchState.OVER)

DISPATCH_WAYS: dict[DispatchState, frozenset[DispatchState]] = {
    DispatchState.NEW: frozenset(_ON_ITS_WAY),
    # To itself: the endpoint could not be reached, and another is tried.
    DispatchState.CONNECTING: frozenset((*_ON_ITS_WAY, DispatchState.BACKOFF)),
    DispatchState.BACKOFF: frozenset(_ON_ITS_WAY),
    # Back to CONNECTING: a reused connection that died before it answered is replaced, once. To itself: the
    # server has not touched the request, and another stream takes it.
    DispatchState.WAITING: frozenset((*_ON_ITS_WAY, DispatchState.BACKOFF)),
    DispatchState.OVER: frozenset(),
}
