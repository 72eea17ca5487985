"""The property that the fast path rests on: what the kernel decides, the proxy would have decided."""

from __future__ import annotations

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.datapath.rules.compilation import CompiledRules, Limits, compile_rules
from meshd.datapath.rules.decision import Carried, Upcall, decide
from meshd.model.routes import (
    HeaderEdit,
    PathExact,
    PathPrefix,
    RouteConfig,
    RouteMatch,
    VirtualHost,
)
from proxy.requests.request_head import RequestHead
from proxy.routing.decision import ForwardTo, RouteTable
from tests.support.route_configs import CLUSTERS, LISTENER, Request, configs, requests, to

limits = st.sampled_from((Limits(), Limits(prefix_elements=2), Limits(candidates=8, headers=1)))


@given(configs, st.lists(requests, min_size=1, max_size=8), limits)
def test_what_the_kernel_carries_the_proxy_would_send_the_same_way(
    config: RouteConfig,
    requests: list[Request],
    limits: Limits,
) -> None:
    rules = compile_rules(LISTENER, config, CLUSTERS, limits)
    assert isinstance(rules, CompiledRules)
    assert all(len(candidates) <= limits.candidates for candidates in rules.paths.values())
    table = RouteTable(config)
    for method, path, query, headers in requests:
        decision = decide(rules, method, path, query is not None, headers)
        head = RequestHead(method, path, query, "web", CIMultiDict((*headers, ("host", "web"))))
        if isinstance(decision, Upcall):
            event(decision.reason.value)
            continue
        event("carried")
        total = decision.shares[-1].bound
        for bucket in range(total):
            share = next(share for share in decision.shares if bucket < share.bound)
            slow = table.decide(head, (bucket + 0.5) / total)
            assert isinstance(slow, ForwardTo)
            assert slow.route.name == rules.routes[decision.route]
            assert slow.cluster == rules.clusters[share.cluster]
            assert slow.target == (path if query is None else f"{path}?{query}")
            assert (slow.host, bool(slow.request_edit), bool(slow.response_edit)) == (None, False, False)


@given(configs, st.lists(requests, min_size=1, max_size=8))
def test_a_request_that_only_plain_routes_could_take_is_carried(
    config: RouteConfig, requests: list[Request]
) -> None:
    """Nothing is given up without need: of routes by exact path or prefix, without conditions."""
    (host,) = config.virtual_hosts
    plain = tuple(
        msgspec.structs.replace(each, match=RouteMatch(path=each.match.path), action=to("a"), request_headers=
        HeaderEdit(), response_headers=HeaderEdit())
        for each in host.routes
        if isinstance(each.match.path, PathExact)
        or (isinstance(each.match.path, PathPrefix) and each.match.path.value.count("/") <= 8)
    )  # fmt: skip
    without = msgspec.structs.replace(config, virtual_hosts=(VirtualHost(name="v", routes=plain),))
    rules = compile_rules(LISTENER, without, CLUSTERS)
    assert isinstance(rules, CompiledRules)
    table = RouteTable(without)
    for method, path, query, _ in requests:
        slow = table.decide(RequestHead(method, path, query, "web", CIMultiDict()), 0.0)
        carried = isinstance(decide(rules, method, path, query is not None), Carried)
        assert carried == (isinstance(slow, ForwardTo) and method != "PURGE")
