"""What becomes of a request, and why: the document behind ``meshd explain``. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from meshd.agent.explain_connection import explain_connection
from meshd.agent.explained import KERNEL, PROXY, CannotExplainError, asked_for, share_view
from meshd.agent.filter_texts import filter_texts
from meshd.agent.matching import find_route, virtual_host_of
from meshd.agent.policy_text import route_effects
from meshd.agent.views import action_text, match_text
from meshd.datapath.rules.compilation import DEFAULT_LIMITS, METHODS, PARSED_FIELDS, CompiledRules, why_upcall
from meshd.datapath.rules.decision import Carried, Reason, Upcall, decide
from meshd.datapath.rules.splicing import LOGGED, NOT_ASKED_FOR, splicing
from meshd.model.grpc import CONTENT_TYPE
from meshd.model.listeners import Listener, Protocol
from meshd.model.regex import RegexError
from meshd.model.request_policies import MILLION
from meshd.model.routes import Forward, PathRegex, Route, RouteConfig
from meshd.model.snapshot import Snapshot
from meshd.model.view import ExplainedRequest, ExplanationView

_READ_BY_THE_KERNEL = ("host", "connection", "content-length", "x-forwarded-proto", "x-request-id")
_PATH_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/%"
)


def explain(
    snapshot: Snapshot,
    request: ExplainedRequest,
    rules_of: Callable[[str, str], CompiledRules | str],
    off: str = "",
    all_logged: bool = False,
    logged: bool = False,
) -> ExplanationView:
    """``rules_of``: as Datapath.rules_of. ``off``: why no request takes the fast path on this node.

    ``logged``: there is an access log; ``all_logged``: and the node says nothing of samples. Raises
    CannotExplainError.
    """
    if not request.method:
        return explain_connection(snapshot, request)
    found_listener = asked_for(snapshot, request.service, Protocol.HTTP)
    namespace = request.namespace if request.namespace in found_listener.caller_namespaces else ""
    listener = found_listener.seen_from(namespace)
    if not request.host:
        request = _with_host(request, listener)
    config = snapshot.route_configs.get(listener.route_config)
    request = _as_call(request, config)
    filters: tuple[str, ...] = ()
    try:
        found = find_route(config, request) if config else None
        if config and found and (host := virtual_host_of(config, request.host)):
            filters = tuple(filter_texts(listener, host, found[1], request))
    except RegexError as error:
        raise CannotExplainError(str(error)) from None
    if all_logged and listener.http.access_log_share == MILLION:
        off = off or "the access log has every request (--access-log-sample)"
    reason = off or _why_proxy(snapshot, request, found, rules_of(listener.name, namespace))
    index, route = found or (None, None)
    forward = route.action if route and isinstance(route.action, Forward) else None
    return ExplanationView(
        service=listener.name,
        namespace=namespace,
        method=request.method,
        target=request.target,
        host=request.host,
        route=route.name if route else "",
        rule=index,
        match=match_text(route.match) if route else "",
        action=action_text(route.action) if route else "answer 404: no route takes it",
        clusters=tuple(share_view(snapshot, share) for share in (forward.clusters if forward else ())),
        filters=filters,
        timeout=forward.timeout if forward else 0.0,
        path=PROXY if reason else KERNEL,
        reason=reason,
        policies=route.policies if route else (),
        effects=tuple(route_effects(forward)) if forward else (),
        http2=_of_http2(snapshot, listener, logged),
    )


def _of_http2(snapshot: Snapshot, listener: Listener, logged: bool) -> str:
    """What becomes of HTTP/2 connections; empty: nothing out of the ordinary."""
    found = splicing(snapshot, listener)
    if found == NOT_ASKED_FOR:
        return ""
    if logged and listener.http.access_log_share:
        found = LOGGED
    if isinstance(found, str):
        return f"connections are not spliced, because: {found}"
    return (
        f"connections are spliced: all requests of one go, unread, to one endpoint of {found.cluster.name}, "
        "until another config is in force"
    )


def _with_host(request: ExplainedRequest, listener: Listener) -> ExplainedRequest:
    namespace, _, name = listener.service.partition("/")
    port = "" if listener.port == 80 else f":{listener.port}"
    return msgspec.structs.replace(request, host=f"{name}.{namespace}{port}")


def _as_call(request: ExplainedRequest, config: RouteConfig | None) -> ExplainedRequest:
    """Where routes are for gRPC, a POST that says nothing of its content is taken for a call."""
    routes = (route for host in (config.virtual_hosts if config else ()) for route in host.routes)
    says = any(name == "content-type" for name, _ in request.headers)
    if says or request.method != "POST" or not any(route.match.grpc for route in routes):
        return request
    return msgspec.structs.replace(request, headers=(*request.headers, ("content-type", CONTENT_TYPE)))


def _why_proxy(
    snapshot: Snapshot,
    request: ExplainedRequest,
    found: tuple[int, Route] | None,
    rules: CompiledRules | str,
) -> str:
    """Empty: the kernel carries the request, once the proxy has armed its connection."""
    if isinstance(rules, str):
        return rules
    if unread := _why_unread(request):
        return unread
    decision = decide(rules, request.method, request.path, request.query is not None, request.headers)
    if isinstance(decision, Carried):
        return ""
    return _why_upcall(snapshot, found, rules, decision)


def _why_unread(request: ExplainedRequest) -> str:
    if request.method not in METHODS:
        return f"the kernel does not know method {request.method}"
    path = request.path
    if path[:1] != "/" or len(path) > DEFAULT_LIMITS.path_bytes or not _PATH_CHARACTERS.issuperset(path):
        return "the kernel does not read such a path"
    for name, value in request.headers:
        handled = name in PARSED_FIELDS and name not in _READ_BY_THE_KERNEL
        if handled or (name == "connection" and value.lower() != "keep-alive"):
            return f"only the proxy handles the field {name}"
    return ""


def _why_upcall(
    snapshot: Snapshot, found: tuple[int, Route] | None, rules: CompiledRules, upcall: Upcall
) -> str:
    index, route = found or (None, None)
    if upcall.route is not None and upcall.route != index:
        return f"only the proxy can tell whether route {rules.routes[upcall.route]} takes it"
    if route is None:
        return "no route takes it"
    if reason := why_upcall(route, snapshot.clusters):
        return reason
    if upcall.reason is Reason.CONDITION:
        return "only the proxy can test the route's conditions"
    if isinstance(route.match.path, PathRegex):
        return "the route's path is a regular expression"
    if upcall.route is None:
        return "too many routes that might take it come first"
    return "the route's path or conditions are more than the kernel knows"
