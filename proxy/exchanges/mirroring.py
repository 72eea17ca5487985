"""Copies of a request to other clusters, whose answers nobody sees. None of them holds the request up."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Sequence

from proxy.exchanges.attempt import Attempt
from proxy.exchanges.client import Client
from proxy.exchanges.destination import Destination
from proxy.filters.shadow import drawn, shadow_fields
from proxy.http1.body import Body, BodyError, body_of
from proxy.http1.field_values import Field
from proxy.http1.refusal import Refusal
from proxy.http1.response_parser import Response
from proxy.routing.decision import ForwardTo
from proxy.runtime import Runtime
from proxy.upstream import failures
from proxy.upstream.loss import Loss
from proxy.upstream.outgoing import Outgoing
from proxy.upstream.server import Server

MAX_MIRRORED = 256
"""Copies of a worker that are not at their end; beyond them none is made."""
MAX_UNSENT_BYTES = 256 * 1024
"""Of a copy, beside what its connection has taken; a copy that falls back further is given up."""
DEFAULT_SECONDS = 60.0
"""For a copy and its answer, where the route has no timeout."""


class _State(enum.Enum):
    CONNECTING = "connecting"
    WAITING = "waiting"
    """The copy is out, or on its way; no final response has begun."""
    READING = "reading"
    OVER = "over"


def mirror(
    client: Client,
    decision: ForwardTo,
    request: Outgoing,
    body: bytes,
    whole: bool,
    trailers: Sequence[Field] | None,
) -> tuple[MirroredRequest, ...]:
    """Send copies of a request to the clusters that its route mirrors to, each to its share.

    ``request``: as it goes to its own server. ``body``: what has come of it; ``whole``: that is all.
    ``trailers``: after it, where it is CONTENT and at its end.
    """
    clusters = drawn(decision.mirrors, client.runtime.random)
    if not clusters:
        return ()
    request = Outgoing(request.asked, request.target, shadow_fields(request.fields))
    copies = []
    for name in clusters:
        destination = _destination(client, name, request.asked.http2)
        if destination is not None:
            copy = MirroredRequest(client.runtime, destination, request, body, whole, trailers)
            copy.start(decision.timeout or DEFAULT_SECONDS)
            copies.append(copy)
    return tuple(copies)


def _destination(client: Client, cluster: str, http2: bool) -> Destination | None:
    """None: there is nowhere to go, or no room for one more."""
    runtime = client.runtime
    balancer = runtime.config.balancers.get(cluster)
    if runtime.mirrored >= MAX_MIRRORED:
        runtime.counters.add("mirrored_requests_dropped_total")
        return None
    destination = None if balancer is None else Destination(client, balancer, http2)
    if destination is None or destination.pick() is not None:
        runtime.counters.add("mirrored_requests_failed_total")
        return None
    if destination.why_full() is not None:
        destination.leave()
        runtime.counters.add("mirrored_requests_dropped_total")
        return None
    return destination


class MirroredRequest:
    """One copy. It lives on when its request has been answered: until its own answer, or its time, ends."""

    __slots__ = (
        "_attempt",
        "_body",
        "_deadline",
        "_destination",
        "_keep_alive",
        "_request",
        "_runtime",
        "_state",
        "_trailers",
        "_unsent",
        "_upstream",
        "_whole",
    )

    def __init__(
        self,
        runtime: Runtime,
        destination: Destination,
        request: Outgoing,
        body: bytes,
        whole: bool,
        trailers: Sequence[Field] | None,
    ) -> None:
        """As ``mirror``'s."""
        self._runtime = runtime
        self._destination = destination
        self._request = request
        self._unsent = body
        self._trailers = trailers
        self._whole = whole
        self._state = _State.CONNECTING
        self._upstream: Server | None = None
        self._attempt: Attempt | None = None
        self._body: Body | None = None
        self._keep_alive = False
        self._deadline: asyncio.TimerHandle

    def start(self, seconds: float) -> None:
        """Send it, and wait so long for the end of its answer."""
        runtime = self._runtime
        runtime.mirrored += 1
        runtime.counters.add("mirrored_requests_total")
        self._deadline = runtime.loop.call_later(seconds, self._fail, failures.route_timeout(seconds))
        # None that the client's flow keeps: those are for its own requests.
        upstream = self._destination.pool.take(careful=False)
        if upstream is not None:
            self.begin(upstream)
        elif (refusal := self._destination.connect(self)) is not None:
            self.turn_away(refusal)

    def more(self, data: bytes, whole: bool) -> None:
        """More of the request's body; ``whole``: there is none after it."""
        if self._state is _State.OVER:
            return
        self._whole = whole
        if self._upstream is not None and not self._upstream.write_paused:
            self._upstream.write(data)
            return
        self._unsent += data
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._give_up("mirrored_requests_dropped_total")

    def end(self, trailers: Sequence[Field]) -> None:
        """The end of a request's body that is CONTENT."""
        if self._state is _State.OVER:
            return
        self._whole = True
        self._trailers = trailers
        if self._upstream is not None and not self._unsent:
            self._upstream.end(trailers)

    def abandon(self) -> None:
        """The request has ended before its last byte came: so does the copy."""
        if not self._whole and self._state is not _State.OVER:
            self._give_up("mirrored_requests_dropped_total")

    # -- for the destination -------------------------------------------------------------------------

    def begin(self, upstream: Server) -> None:
        """It has who takes it."""
        self._state = _State.WAITING
        self._upstream = upstream
        assert self._destination.endpoint is not None
        self._attempt = Attempt(self._destination.pool, self._destination.endpoint)
        unsent, self._unsent = self._unsent, b""
        upstream.send(self, self._request, unsent)
        if self._trailers is not None:
            upstream.end(self._trailers)

    def connect_failed(self, refusal: Refusal) -> None:
        """It cannot be had; another one is not tried."""
        self._fail(refusal)

    def go_elsewhere(self) -> None:
        """The endpoint takes no new requests any more."""
        self._give_up("mirrored_requests_failed_total")

    def turn_away(self, refusal: Refusal) -> None:
        """There are too many others."""
        self._give_up("mirrored_requests_dropped_total")

    # -- for the connection --------------------------------------------------------------------------

    def upstream_write_paused(self) -> None:
        """The server does not keep up: what comes now waits here, as long as there is room."""

    def upstream_write_resumed(self) -> None:
        """It has caught up."""
        self._write_unsent()

    def upstream_interim(self, response: Response) -> None:
        """A 1xx response, which another one follows."""

    def upstream_responds(self, response: Response, data: bytes, at: int) -> None:
        """The answer, which nobody wants; only its end matters."""
        if response.status == 101:
            self._fail(failures.bad_response("the server changed protocols unasked"))
            return
        self._state = _State.READING
        if self._attempt is not None:
            self._attempt.answered(response.status)
        self._keep_alive = response.keep_alive
        self._body = body_of(response.length)
        self._read(data, at)

    def upstream_data(self, data: bytes) -> None:
        """More of its body."""
        self._read(data, 0)

    def upstream_end(self, trailers: Sequence[Field]) -> bool:
        """The server has sent its last byte; never True: ours has no use any more."""
        if self._state is _State.READING and self._body is not None and self._body.closed():
            self._end()
        return False

    def upstream_lost(self, loss: Loss) -> None:
        """No more comes."""
        self._upstream = None
        self._fail(loss.unbegun)

    def _read(self, data: bytes, at: int) -> None:
        body = self._body
        try:
            end = at if body is None else body.feed(data, at)
        except BodyError as error:
            self._fail(failures.bad_response(str(error)))
            return
        if body is None or body.done:
            self._keep_alive = self._keep_alive and end == len(data)
            self._end()

    def _write_unsent(self) -> None:
        if self._upstream is not None and self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._upstream.write(unsent)
            if self._trailers is not None:
                self._upstream.end(self._trailers)

    # -- the end -------------------------------------------------------------------------------------

    def _fail(self, refusal: Refusal) -> None:
        """``refusal``: what the client would be told, if this were its request."""
        if self._state is _State.OVER:
            return
        if self._attempt is not None:
            self._attempt.failed(refusal)
        self._give_up("mirrored_requests_failed_total")

    def _give_up(self, counter: str) -> None:
        self._runtime.counters.add(counter)
        self._keep_alive = False
        self._end()

    def _end(self) -> None:
        """Answered, or given up: the connection goes back to its pool if it may be used again."""
        self._state = _State.OVER
        self._unsent = b""
        self._deadline.cancel()
        self._runtime.mirrored -= 1
        self._destination.leave()
        if self._attempt is not None:
            self._attempt.end()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self._keep_alive and self._whole:
                upstream.finish(True, None)
            else:
                upstream.leave()
