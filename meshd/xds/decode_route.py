"""Route configurations from xDS v3 protos."""

from __future__ import annotations

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2

from meshd.model.request_policies import MILLION, Session, StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathMatch,
    PathPrefix,
    PathRegex,
    Redirect,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.xds import header_edits, http_filters, metadata, path_rewrites, shares, string_matches
from meshd.xds.encode_route import MISSING_CLUSTER, REDIRECT_STATUS
from meshd.xds.packing import seconds
from meshd.xds.policies import hash_keys, mirrors, retries
from meshd.xds.unsupported import UnsupportedError, only

DEFAULT_ROUTE_TIMEOUT = 15.0
"""Seconds; RouteAction.timeout where it is not set."""
_MISSING_CLUSTER = {code: status for status, code in MISSING_CLUSTER.items()}
_REDIRECT_STATUS = {code: status for status, code in REDIRECT_STATUS.items()}
_EDITS = {
    "request_headers_to_add", "request_headers_to_remove",
    "response_headers_to_add", "response_headers_to_remove",
}  # fmt: skip


def route_config(message: route_pb2.RouteConfiguration) -> RouteConfig:
    """A route configuration. Raises UnsupportedError."""
    name = str(message.name)
    only(
        message,
        {"name", "virtual_hosts", "validate_clusters", "ignore_port_in_host_matching",
         "max_direct_response_body_size_bytes"},
        name,
    )  # fmt: skip
    if message.validate_clusters.value:
        raise UnsupportedError(name, "validate_clusters", "only false")
    seen: set[str] = set()
    hosts = []
    for i, host in enumerate(message.virtual_hosts):
        where = f"virtual_hosts[{i}]"
        only(host, {"name", "domains", "routes", "typed_per_filter_config"}, name, where)
        filters = http_filters.read_configs(
            host.typed_per_filter_config, {http_filters.RATE_LIMIT}, name, where
        )
        for domain in host.domains:
            if domain.lower() in seen:
                raise UnsupportedError(name, f"{where}.domains", f"{domain} is given twice")
            seen.add(domain.lower())
        if not host.domains:
            raise UnsupportedError(name, f"{where}.domains", "must not be empty")
        routes = tuple(_route(r, name, f"{where}.routes[{j}]") for j, r in enumerate(host.routes))
        hosts.append(
            VirtualHost(
                name=host.name, domains=tuple(host.domains), routes=routes, rate_limit=filters.rate_limit
            )
        )
    return RouteConfig(
        name=name, virtual_hosts=tuple(hosts), ignore_port=message.ignore_port_in_host_matching
    )


def _edits(
    message: route_components_pb2.Route | route_components_pb2.WeightedCluster.ClusterWeight,
    name: str,
    where: str,
) -> tuple[HeaderEdit, HeaderEdit]:
    """What is done to the request's and to the response's headers."""
    return (
        header_edits.edit(
            name,
            f"{where}.request_headers_to_add",
            message.request_headers_to_add,
            message.request_headers_to_remove,
        ),
        header_edits.edit(
            name,
            f"{where}.response_headers_to_add",
            message.response_headers_to_add,
            message.response_headers_to_remove,
        ),
    )


def _route(message: route_components_pb2.Route, name: str, where: str) -> Route:
    only(
        message,
        {"name", "match", "route", "redirect", "direct_response", "metadata", "typed_per_filter_config"}
        | _EDITS,
        name,
        where,
    )
    match = _match(message.match, name, f"{where}.match")
    filters = http_filters.read_configs(message.typed_per_filter_config, http_filters.OF_ROUTES, name, where)
    kind = message.WhichOneof("action")
    action: Forward | Redirect | DirectResponse
    if kind == "route":
        action = _forward(message.route, match.path, filters.session, name, f"{where}.route")
    elif kind == "redirect":
        action = _redirect(message.redirect, match.path, name, f"{where}.redirect")
    elif kind == "direct_response":
        action = _direct(message.direct_response, name, f"{where}.direct_response")
    else:
        raise UnsupportedError(name, f"{where}.action", "must be set")
    request, response = _edits(message, name, where)
    fields = metadata.own_fields(message.metadata)
    about = f"{where}.metadata"
    metadata.only(fields, {"fast_path", metadata.POLICIES, retries.LEAST_BACKOFF}, name, about)
    least_backoff = metadata.seconds(fields, retries.LEAST_BACKOFF, name, about)
    if least_backoff and isinstance(action, Forward) and action.retry is not None:
        retry = msgspec.structs.replace(action.retry, least_backoff=least_backoff)
        action = msgspec.structs.replace(action, retry=retry)
    return Route(
        name=message.name,
        match=match,
        action=action,
        request_headers=request,
        response_headers=response,
        cors=filters.cors,
        fault=filters.fault,
        rate_limit=filters.rate_limit,
        fast_path=metadata.flag(fields, "fast_path", True, name, about),
        policies=metadata.texts(fields, metadata.POLICIES, name, about),
    )


def _path(message: route_components_pb2.RouteMatch, name: str, where: str) -> PathMatch:
    kind = message.WhichOneof("path_specifier")
    if kind == "path":
        return PathExact(message.path)
    if kind == "path_separated_prefix":
        return PathPrefix(message.path_separated_prefix)
    if kind == "prefix":
        if message.prefix not in ("", "/"):
            why = f"{message.prefix!r} may end inside a path element; use path_separated_prefix"
            raise UnsupportedError(name, f"{where}.prefix", why)
        return PathPrefix("/")
    if kind == "safe_regex":
        only(message.safe_regex, {"regex"}, name, f"{where}.safe_regex")
        return PathRegex(string_matches.regex(message.safe_regex.regex, name, f"{where}.safe_regex"))
    raise UnsupportedError(name, f"{where}.path_specifier", f"{kind or 'none'} is not supported")


def _match(message: route_components_pb2.RouteMatch, name: str, where: str) -> RouteMatch:
    only(
        message,
        {"path", "prefix", "path_separated_prefix", "safe_regex", "case_sensitive", "headers",
         "query_parameters", "runtime_fraction"},
        name,
        where,
    )  # fmt: skip
    if message.HasField("case_sensitive") and not message.case_sensitive.value:
        raise UnsupportedError(name, f"{where}.case_sensitive", "only true")
    method = ""
    headers: list[StringMatch] = []
    for i, header in enumerate(message.headers):
        here = f"{where}.headers[{i}]"
        value = string_matches.read_header(header, name, here)
        key = value.name
        if not key.startswith(":"):
            headers.append(value)
        elif key == ":method" and not value.regex and not method:
            method = value.value
        elif key == ":authority":
            headers.append(StringMatch(name="host", value=value.value, regex=value.regex))
        else:
            raise UnsupportedError(name, here, f"a match on {key} of this kind")
    query = []
    for i, parameter in enumerate(message.query_parameters):
        here = f"{where}.query_parameters[{i}]"
        only(parameter, {"name", "string_match"}, name, here)
        query.append(
            string_matches.read(parameter.string_match, parameter.name, name, f"{here}.string_match")
        )
    share = MILLION
    if message.HasField("runtime_fraction"):
        share = shares.read_runtime(message.runtime_fraction, name, f"{where}.runtime_fraction")
    return RouteMatch(
        path=_path(message, name, where),
        method=method,
        headers=tuple(headers),
        query=tuple(query),
        share=share,
    )


def _forward(
    message: route_components_pb2.RouteAction, path: PathMatch, session: Session | None, name: str, where: str
) -> Forward:
    only(
        message,
        {"cluster", "weighted_clusters", "cluster_not_found_response_code", "prefix_rewrite", "regex_rewrite",
         "host_rewrite_literal", "timeout", "retry_policy", "request_mirror_policies", "hash_policy"},
        name,
        where,
    )  # fmt: skip
    if message.cluster_not_found_response_code not in _MISSING_CLUSTER:
        raise UnsupportedError(name, f"{where}.cluster_not_found_response_code", "not supported")
    return Forward(
        clusters=_clusters(message, name, where),
        timeout=seconds(message, "timeout", DEFAULT_ROUTE_TIMEOUT),
        host=message.host_rewrite_literal,
        path=path_rewrites.read(message, path, name, where),
        retry=retries.read(message, name, where),
        mirrors=mirrors.read(message, name, where),
        hash_keys=hash_keys.read(message, name, where),
        session=session,
        missing_cluster_status=_MISSING_CLUSTER[message.cluster_not_found_response_code],
    )


def _clusters(
    message: route_components_pb2.RouteAction, name: str, where: str
) -> tuple[WeightedCluster, ...]:
    kind = message.WhichOneof("cluster_specifier")
    if kind == "cluster":
        return (WeightedCluster(name=message.cluster),)
    if kind != "weighted_clusters":
        raise UnsupportedError(name, f"{where}.cluster_specifier", f"{kind or 'none'} is not supported")
    where = f"{where}.weighted_clusters"
    only(message.weighted_clusters, {"clusters"}, name, where)
    clusters = []
    for i, share in enumerate(message.weighted_clusters.clusters):
        here = f"{where}.clusters[{i}]"
        only(share, {"name", "weight"} | _EDITS, name, here)
        request, response = _edits(share, name, here)
        clusters.append(
            WeightedCluster(
                name=share.name,
                weight=share.weight.value,
                request_headers=request,
                response_headers=response,
            )
        )
    if sum(cluster.weight for cluster in clusters) <= 0:
        raise UnsupportedError(name, where, "the sum of weights must be above 0")
    return tuple(clusters)


def _redirect(
    message: route_components_pb2.RedirectAction, path: PathMatch, name: str, where: str
) -> Redirect:
    only(
        message,
        {"scheme_redirect", "https_redirect", "host_redirect", "port_redirect", "path_redirect",
         "prefix_rewrite", "regex_rewrite", "response_code"},
        name,
        where,
    )  # fmt: skip
    return Redirect(
        scheme="https" if message.https_redirect else message.scheme_redirect,
        host=message.host_redirect,
        port=message.port_redirect,
        path=path_rewrites.read(message, path, name, where),
        status=_REDIRECT_STATUS[message.response_code],
    )


def _direct(message: route_components_pb2.DirectResponseAction, name: str, where: str) -> DirectResponse:
    only(message, {"status", "body"}, name, where)
    source: base_pb2.DataSource = message.body
    only(source, {"inline_string"}, name, f"{where}.body")
    if not 200 <= message.status <= 599:
        raise UnsupportedError(name, f"{where}.status", f"{message.status} is no final status")
    return DirectResponse(status=message.status, body=source.inline_string)
