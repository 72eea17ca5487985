"""A request that the kernel carried and the proxy takes over: to relay its answer, or because none comes."""

from __future__ import annotations

from collections.abc import Callable

from multidict import CIMultiDict

from meshd.datapath.flows.kept_requests import request_id_text
from meshd.datapath.flows.table import Carried
from meshd.model.routes import Forward
from proxy.exchanges.attempt import Attempt
from proxy.fast.carried_client import CarriedClient
from proxy.fast.carried_exchange import CarriedExchange
from proxy.http1.body import CHUNKED, Body, body_of
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.request_parser import RequestParser
from proxy.requests.header_edit import NO_EDIT
from proxy.requests.request_head import RequestHead
from proxy.routing.decision import ForwardTo
from proxy.routing.listener_rules import ListenerRules
from proxy.upstream.http1 import Upstream

_HEAD_END = b"\r\n\r\n"


def adopt(
    downstream: CarriedClient,
    is_whole: Callable[[], bool],
    rules: ListenerRules,
    carried: Carried,
    method: str,
    upstream: Upstream | None,
    attempt: Attempt | None,
    sent: bytes = b"",
) -> CarriedExchange:
    """The exchange of a carried request, as if the proxy had just sent it on ``upstream``.

    ``is_whole``: whether the request has come to its end.

    ``rules``: by which the kernel decided. ``upstream``: None where it is gone. ``attempt``: as for
    CarriedExchange.wait. ``sent``: all that has gone out of the request, as the client sent it; empty: not
    known, so that it cannot be sent again.
    """
    route = rules.routes[carried.route]
    assert isinstance(route.action, Forward)
    cluster = rules.clusters.get(carried.cluster, "")
    head, _, body = sent.partition(_HEAD_END)
    balancer = rules.balancers.get(cluster) if sent else None
    request = None
    if balancer is not None:
        request = _parsed(downstream.runtime.requests, head + _HEAD_END, carried)
    decision = ForwardTo(
        route,
        cluster,
        target="" if request is None else request.target,
        host=None,
        request_edit=NO_EDIT,  # with an edit it would not have been carried
        response_edit=NO_EDIT,
        timeout=route.action.timeout,
        retry=route.action.retry,
        missing_cluster_status=route.action.missing_cluster_status,
    )
    whole = carried.request_left == 0
    exchange = CarriedExchange(
        downstream, request or _unknown(method), carried.began, decision, whole, is_whole
    )
    downstream.adopt(exchange)
    exchange.wait(upstream, attempt, balancer if request is not None else None, body)
    return exchange


def rest_of_chunks() -> Body | None:
    """A chunked body from a chunk's beginning on."""
    return body_of(CHUNKED)


def _parsed(parser: RequestParser, head: bytes, carried: Carried) -> Request | None:
    """The request, with the x-request-id that the first server has seen; None: the proxy would refuse it."""
    number = request_id_text(carried.request_id)
    if number:
        head = head[:-2] + b"x-request-id: " + number + b"\r\n\r\n"
    try:
        return parser.parse(head)
    except Refusal:
        return None


def _unknown(method: str) -> Request:
    request = Request()
    request.head = RequestHead(method, "", None, "", CIMultiDict())
    return request
