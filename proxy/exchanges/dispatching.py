"""A request as it goes to a server, and what of it is kept to be sent again."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.balancing.balancer import Balancer
from proxy.exchanges.client import Client
from proxy.exchanges.destination import Destination
from proxy.exchanges.dispatch import Dispatch
from proxy.exchanges.dispatched import Dispatched
from proxy.exchanges.kept_request import MAX_REPLAYED_BODY_BYTES, KeptRequest
from proxy.exchanges.retry_state import kept_bytes, try_seconds
from proxy.http1.field_values import Field
from proxy.routing.affinity import Affinity
from proxy.routing.decision import ForwardTo
from proxy.upstream.outgoing import Outgoing, outgoing
from proxy.upstream.server_version import speaks_http2


def written_down(
    exchange: Dispatched,
    client: Client,
    decision: ForwardTo,
    balancer: Balancer,
    affinity: Affinity | None,
    body: bytes,
    trailers: Sequence[Field] | None,
) -> tuple[Outgoing, Dispatch]:
    """The head, and the search for a response, which has not begun.

    ``affinity``: what ties the request to an endpoint. ``body``: what has come of it. ``trailers``: after it,
    where it is CONTENT and at its end.
    """
    request, retry, limit, seconds = exchange.request, decision.retry, 0, 0.0
    head = outgoing(request, decision, client.listener.options, client.forwarded_for())
    if retry is not None:
        limit, seconds = kept_bytes(retry), try_seconds(retry, decision.timeout)
    if limit < MAX_REPLAYED_BODY_BYTES and speaks_http2(balancer.cluster, request.http2):
        limit = MAX_REPLAYED_BODY_BYTES
    kept = KeptRequest(head, body, limit)
    kept.trailers = trailers
    destination = Destination(client, balancer, request.http2, affinity)
    return head, Dispatch(exchange, client, destination, kept, retry, seconds)
