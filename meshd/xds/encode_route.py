"""Virtual hosts and routes as xDS v3 protos."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import string_pb2

from meshd.model.request_policies import MILLION
from meshd.model.routes import (
    DirectResponse,
    Forward,
    PathExact,
    PathPrefix,
    Redirect,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.xds import header_edits, http_filters, metadata, path_rewrites, shares, string_matches
from meshd.xds.packing import duration, number
from meshd.xds.policies import hash_keys, mirrors, retries

_NOT_FOUND = route_components_pb2.RouteAction.ClusterNotFoundResponseCode
MISSING_CLUSTER = {
    503: _NOT_FOUND.SERVICE_UNAVAILABLE,
    404: _NOT_FOUND.NOT_FOUND,
    500: _NOT_FOUND.INTERNAL_SERVER_ERROR,
}
_REDIRECT = route_components_pb2.RedirectAction.RedirectResponseCode
REDIRECT_STATUS = {
    301: _REDIRECT.MOVED_PERMANENTLY,
    302: _REDIRECT.FOUND,
    303: _REDIRECT.SEE_OTHER,
    307: _REDIRECT.TEMPORARY_REDIRECT,
    308: _REDIRECT.PERMANENT_REDIRECT,
}


def virtual_host(model: VirtualHost) -> route_components_pb2.VirtualHost:
    """A virtual host. Raises ValueError as ``route`` does."""
    return route_components_pb2.VirtualHost(
        name=model.name,
        domains=model.domains,
        routes=[route(r) for r in model.routes],
        typed_per_filter_config=http_filters.configs(http_filters.of_host(model)),
    )


def route(model: Route) -> route_components_pb2.Route:
    """A route. Raises ValueError for one that contradicts itself: no positive weight, a prefix replaced
    where none is matched, a fault that is both fixed and the request's own, a rate limit without a bucket.
    """
    message = route_components_pb2.Route(
        name=model.name,
        match=_match(model.match),
        request_headers_to_add=header_edits.options(model.request_headers),
        request_headers_to_remove=model.request_headers.remove,
        response_headers_to_add=header_edits.options(model.response_headers),
        response_headers_to_remove=model.response_headers.remove,
        typed_per_filter_config=http_filters.configs(http_filters.of_route(model)),
        metadata=metadata.write(_facts(model)),
    )
    if isinstance(model.action, Forward):
        message.route.CopyFrom(_forward(model.action, model.match))
    elif isinstance(model.action, Redirect):
        message.redirect.CopyFrom(_redirect(model.action, model.match))
    else:
        message.direct_response.CopyFrom(_direct(model.action))
    return message


def _facts(model: Route) -> dict[str, bool | float | Sequence[str]]:
    """What Envoy knows nothing of."""
    facts: dict[str, bool | float | Sequence[str]] = {}
    if not model.fast_path:
        facts["fast_path"] = False
    if model.policies:
        facts[metadata.POLICIES] = model.policies
    retry = model.action.retry if isinstance(model.action, Forward) else None
    if retry is not None and retry.least_backoff:
        facts[retries.LEAST_BACKOFF] = retry.least_backoff
    return facts


def _match(model: RouteMatch) -> route_components_pb2.RouteMatch:
    headers = string_matches.headers(model.headers)
    if model.method:
        method = string_pb2.StringMatcher(exact=model.method)
        headers.insert(0, route_components_pb2.HeaderMatcher(name=":method", string_match=method))
    message = route_components_pb2.RouteMatch(
        headers=headers,
        query_parameters=[
            route_components_pb2.QueryParameterMatcher(name=q.name, string_match=string_matches.write(q))
            for q in model.query
        ],
        runtime_fraction=shares.runtime_fraction(model.share) if model.share != MILLION else None,
    )
    if isinstance(model.path, PathExact):
        message.path = model.path.value
    elif not isinstance(model.path, PathPrefix):
        message.safe_regex.regex = model.path.value
    elif model.path.value == "/":
        message.prefix = "/"
    else:
        message.path_separated_prefix = model.path.value
    return message


def _weighted(model: WeightedCluster) -> route_components_pb2.WeightedCluster.ClusterWeight:
    return route_components_pb2.WeightedCluster.ClusterWeight(
        name=model.name,
        weight=number(model.weight),
        request_headers_to_add=header_edits.options(model.request_headers),
        request_headers_to_remove=model.request_headers.remove,
        response_headers_to_add=header_edits.options(model.response_headers),
        response_headers_to_remove=model.response_headers.remove,
    )


def _forward(model: Forward, match: RouteMatch) -> route_components_pb2.RouteAction:
    if sum(cluster.weight for cluster in model.clusters) <= 0:
        raise ValueError("no cluster of a route has a weight above 0: answer directly instead")
    action = route_components_pb2.RouteAction(
        cluster_not_found_response_code=MISSING_CLUSTER[model.missing_cluster_status],
        timeout=duration(model.timeout),
        request_mirror_policies=mirrors.write(model.mirrors),
        hash_policy=hash_keys.write(model.hash_keys),
    )
    single = model.clusters[0]
    if model.clusters == (WeightedCluster(name=single.name),):
        action.cluster = single.name
    else:
        action.weighted_clusters.clusters.extend(_weighted(c) for c in model.clusters)
    if model.host:
        action.host_rewrite_literal = model.host
    retries.write(action, model.retry)
    path_rewrites.write(action, model.path, match.path)
    return action


def _redirect(model: Redirect, match: RouteMatch) -> route_components_pb2.RedirectAction:
    action = route_components_pb2.RedirectAction(
        host_redirect=model.host, port_redirect=model.port, response_code=REDIRECT_STATUS[model.status]
    )
    if model.scheme:
        action.scheme_redirect = model.scheme
    path_rewrites.write(action, model.path, match.path)
    return action


def _direct(model: DirectResponse) -> route_components_pb2.DirectResponseAction:
    body = base_pb2.DataSource(inline_string=model.body) if model.body else None
    return route_components_pb2.DirectResponseAction(status=model.status, body=body)
