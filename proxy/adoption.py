"""A request that the kernel carried and the proxy takes over: to relay its answer, or to answer it itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multidict import CIMultiDict

from meshd.datapath.flows import Carried
from meshd.model.config import Forward
from proxy.body import CHUNKED, Body, body_of
from proxy.exchange import Exchange
from proxy.fast_path import ListenerRules
from proxy.header_edit import NO_EDIT
from proxy.request_head import RequestHead
from proxy.request_parser import Request
from proxy.routing import ForwardTo
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from proxy.downstream import Downstream


def adopt(
    downstream: Downstream, rules: ListenerRules, carried: Carried, method: str, upstream: Upstream | None
) -> Exchange:
    """The exchange of a carried request, as if the proxy had just sent it on ``upstream``.

    ``upstream``: None where it is gone. ``rules``: by which the kernel decided.
    """
    route = rules.routes[carried.route]
    assert isinstance(route.action, Forward)
    decision = ForwardTo(
        route,
        rules.clusters.get(carried.cluster, ""),
        target="",
        host=None,
        request_edit=NO_EDIT,  # with an edit it would not have been carried
        response_edit=NO_EDIT,
        timeout=route.action.timeout,
        connect_retries=0,
        missing_cluster_status=503,
    )
    request = Request()
    request.head = RequestHead(method, "", None, "", CIMultiDict())
    exchange = downstream.adopt(request, carried.began)
    exchange.adopt(decision, upstream, carried.request_left == 0)
    return exchange


def rest_of_chunks() -> Body | None:
    """A chunked body from a chunk's beginning on."""
    return body_of(CHUNKED)
