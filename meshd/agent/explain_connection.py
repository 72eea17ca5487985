"""What becomes of a TCP connection, and why. Pure."""

from __future__ import annotations

from meshd.agent.explained import KERNEL, PROXY, asked_for, share_view
from meshd.agent.filter_texts import failure_texts
from meshd.agent.views import clusters_text, names_text
from meshd.model.listeners import Listener, Protocol
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_decision import TcpRouteTable
from meshd.model.view import ExplainedRequest, ExplanationView

_JOINED = "joined with endpoints on the caller's node, unless a pod's annotation forbids it"


def explain_connection(snapshot: Snapshot, asked: ExplainedRequest) -> ExplanationView:
    """``asked``: without a method. Raises CannotExplainError."""
    found = asked_for(snapshot, asked.service, Protocol.TCP)
    namespace = asked.namespace if asked.namespace in found.caller_namespaces else ""
    listener = found.seen_from(namespace)
    route = TcpRouteTable(listener).route(asked.server_name)
    return ExplanationView(
        service=listener.name,
        namespace=namespace,
        method="",
        target="",
        host=asked.server_name,
        route=route.name if route else "",
        rule=listener.tcp_routes.index(route) if route in listener.tcp_routes else None,
        match=names_text(route) if route else "",
        action=clusters_text(route.clusters) if route else "reset: no route takes it",
        clusters=tuple(share_view(snapshot, share) for share in route.clusters) if route else (),
        filters=tuple(failure_texts(found)),
        timeout=route.idle_timeout if route else 0.0,
        path=PROXY if found.is_relayed else KERNEL,
        reason=_why_proxy(found, listener),
        effects=(_JOINED,) if found.tcp_fast_path and not found.is_relayed else (),
    )


def _why_proxy(found: Listener, listener: Listener) -> str:
    """Empty: the kernel picks the endpoint, and the connection is the mesh's no more."""
    if any(route.server_names for route in listener.tcp_routes):
        return "the client's first bytes tell the route"
    if listener.tcp_routes:
        return "it is a route's"
    return "callers of other namespaces have routes of their own" if found.is_relayed else ""
