"""A real Envoy with clusters of a test's making, whose endpoints say which of them was asked."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2
from envoy.type.http.v3 import cookie_pb2 as http_cookie_pb2
from google.protobuf import any_pb2, duration_pb2, message
from google.protobuf import wrappers_pb2 as wrappers

from meshd.model.cluster_policies import Maglev, RingHash
from meshd.model.clusters import Cluster, EndpointSet, Health
from meshd.model.request_policies import (
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSource,
    Session,
    SessionCookie,
)
from tests.support import envoy
from tests.support.netns import Namespace, namespace

PORT = 8000
"""Of all endpoints: one server has it on all of 127.0.0.0/8."""
_ENVOY_PORT = 10000
_SECONDS = 60.0
_HEALTH = {
    Health.HEALTHY: health_check_pb2.HEALTHY,
    Health.UNHEALTHY: health_check_pb2.UNHEALTHY,
    Health.DRAINING: health_check_pb2.DRAINING,
}


class Backend(NamedTuple):
    """A cluster and how requests for it are tied to endpoints. They go to ``/NAME/...``."""

    cluster: Cluster
    endpoints: EndpointSet
    keys: tuple[HashKey, ...] = ()
    session: Session | None = None


class Told(NamedTuple):
    """What came of a request."""

    endpoint: str
    """The address that answered; empty: Envoy did."""
    headers: Mapping[str, str]
    """Of the answer, names in lower case."""


class AskedEnvoy:
    """Asks it on one connection."""

    def __init__(self, pod: Namespace) -> None:
        with pod.entered():
            sock = socket.create_connection(("127.0.0.1", _ENVOY_PORT), _SECONDS)
        self.client_address = sock.getsockname()
        self._connection = http.client.HTTPConnection("127.0.0.1", _ENVOY_PORT)
        self._connection.sock = sock

    def ask(self, target: str, headers: Sequence[tuple[str, str]] = ()) -> Told:
        """Send a GET."""
        self._connection.putrequest("GET", target)
        for name, value in headers:
            self._connection.putheader(name, value)
        self._connection.endheaders()
        response = self._connection.getresponse()
        body = response.read().decode()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Told(body if response.status == 200 else "", fields)

    def close(self) -> None:
        self._connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: else the body waits for Envoy's delayed ACK of the head

    def do_GET(self) -> None:
        body = self.connection.getsockname()[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # they end with their connections, of which Envoy holds the other ends


@contextlib.contextmanager
def _servers(pod: Namespace) -> Iterator[None]:
    with pod.entered():
        server = _Server(("0.0.0.0", PORT), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def asked_envoy(backends: Sequence[Backend]) -> Iterator[AskedEnvoy]:
    """An Envoy that serves them, and a connection to it."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mt-bal-")))
        pod = stack.enter_context(namespace())
        stack.enter_context(_servers(pod))
        with pod.entered():
            process = envoy.EnvoyProcess(_bootstrap(backends), directory)
        stack.enter_context(process)
        process.wait_ready()
        asked = AskedEnvoy(pod)
        stack.callback(asked.close)
        yield asked


def _any(packed: message.Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(packed)
    return found


def _address(address: str, port: int) -> address_pb2.Address:
    return address_pb2.Address(socket_address=address_pb2.SocketAddress(address=address, port_value=port))


def _bootstrap(backends: Sequence[Backend]) -> bootstrap_pb2.Bootstrap:
    manager = http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix="all",
        route_config=route_pb2.RouteConfiguration(
            virtual_hosts=[
                route_components_pb2.VirtualHost(name="all", domains=["*"], routes=map(_route, backends))
            ]
        ),
    )
    sessions = "envoy.filters.http.stateful_session"
    manager.http_filters.add(name=sessions).typed_config.CopyFrom(
        _any(stateful_session_pb2.StatefulSession())
    )
    manager.http_filters.add(name="envoy.filters.http.router").typed_config.CopyFrom(
        _any(router_pb2.Router())
    )
    chain = listener_components_pb2.FilterChain()
    chain.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.CopyFrom(
        _any(manager)
    )
    found = envoy.bootstrap("balancing")
    found.static_resources.listeners.append(
        listener_pb2.Listener(name="all", address=_address("127.0.0.1", _ENVOY_PORT), filter_chains=[chain])
    )
    found.static_resources.clusters.extend(map(_cluster, backends))
    return found


def _route(backend: Backend) -> route_components_pb2.Route:
    name = backend.cluster.name
    route = route_components_pb2.Route(
        match=route_components_pb2.RouteMatch(prefix=f"/{name}/"),
        route=route_components_pb2.RouteAction(cluster=name, hash_policy=map(_hash_policy, backend.keys)),
    )
    if backend.session is not None:
        override = stateful_session_pb2.StatefulSessionPerRoute()
        state = override.stateful_session.session_state
        kind = "cookie" if isinstance(backend.session, SessionCookie) else "header"
        state.name = f"envoy.http.stateful_session.{kind}"
        state.typed_config.CopyFrom(_any(_session(backend.session)))
        route.typed_per_filter_config["envoy.filters.http.stateful_session"].CopyFrom(_any(override))
    return route


def _session(session: Session) -> message.Message:
    if not isinstance(session, SessionCookie):
        header: message.Message = header_pb2.HeaderBasedSessionState(name=session.name)
        return header
    cookie = http_cookie_pb2.Cookie(name=session.name, path=session.path)
    if session.ttl:
        cookie.ttl.CopyFrom(duration_pb2.Duration(seconds=int(session.ttl)))
    state: message.Message = cookie_pb2.CookieBasedSessionState(cookie=cookie)
    return state


def _hash_policy(key: HashKey) -> route_components_pb2.RouteAction.HashPolicy:
    policy = route_components_pb2.RouteAction.HashPolicy(terminal=True)
    match key:
        case HashHeader(name=name):
            policy.header.header_name = name
        case HashCookie(name=name, path=path, ttl=ttl):
            policy.cookie.name = name
            policy.cookie.path = path
            if ttl:
                policy.cookie.ttl.CopyFrom(duration_pb2.Duration(seconds=int(ttl)))
        case HashQuery(name=name):
            policy.query_parameter.name = name
        case HashSource():
            policy.connection_properties.source_ip = True
    return policy


def _cluster(backend: Backend) -> cluster_pb2.Cluster:
    cluster, endpoints = backend.cluster, backend.endpoints
    found = cluster_pb2.Cluster(
        name=cluster.name,
        type=cluster_pb2.Cluster.STATIC,
        connect_timeout=duration_pb2.Duration(seconds=5),
        load_assignment=_assignment(endpoints),
    )
    found.common_lb_config.healthy_panic_threshold.value = cluster.panic_percent
    match cluster.balancing:
        case RingHash(min_size=least, max_size=most):
            found.lb_policy = cluster_pb2.Cluster.RING_HASH
            found.ring_hash_lb_config.minimum_ring_size.value = least
            found.ring_hash_lb_config.maximum_ring_size.value = most
        case Maglev(table_size=size):
            found.lb_policy = cluster_pb2.Cluster.MAGLEV
            found.maglev_lb_config.table_size.value = size
    return found


def _assignment(endpoints: EndpointSet) -> endpoint_pb2.ClusterLoadAssignment:
    found = endpoint_pb2.ClusterLoadAssignment(cluster_name=endpoints.name)
    found.policy.overprovisioning_factor.value = endpoints.overprovisioning_percent
    for priority in sorted({each.priority for each in endpoints.endpoints}):
        found.endpoints.add(
            priority=priority,
            lb_endpoints=[
                endpoint_components_pb2.LbEndpoint(
                    endpoint=endpoint_components_pb2.Endpoint(address=_address(each.address, each.port)),
                    health_status=_HEALTH[each.health],
                    load_balancing_weight=wrappers.UInt32Value(value=each.weight),
                )
                for each in endpoints.endpoints
                if each.priority == priority
            ],
        )
    return found
