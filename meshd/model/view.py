"""What the agent shows of itself over its admin socket: the documents behind ``meshd status``."""

from __future__ import annotations

import msgspec

from meshd.model.status import ObjectStatus
from meshd.model.wire import LATENCY_BUCKETS


class ControlView(msgspec.Struct, frozen=True, kw_only=True):
    """The stream to the control plane."""

    target: str
    connected: bool
    synced: bool
    """All resources that the agent asked for have come at least once."""
    version: str
    """The control plane's name for the config that it sent last."""
    nacks: int
    """Resources refused since the agent's start."""
    refused: dict[str, str]
    """Resource name to reason, for what is refused now."""
    last_error: str


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy worker."""

    worker: int
    pid: int
    state: str
    """``starting``, ``serving`` or ``lost``."""
    generation: int
    restarts: int
    rss_bytes: int


class CheckView(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the fast path's self-test."""

    name: str
    reason: str
    """Why it failed; empty: it did not."""


class CaptureView(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel side."""

    pins: str
    cgroup: str
    fast_path: str
    """``full`` or ``off``: whether the kernel may carry requests."""
    fast_path_reason: str
    verdict_program_needed: bool | None = None
    """Whether this kernel needs the program that joins a socket's queues; None: not tested."""
    self_test: tuple[CheckView, ...] = ()
    """The fast path's checks; empty: the self-test was not run."""
    fast_path_requests: int = 0
    """Carried by the kernel, of those in ``StatusView.requests``."""
    spliced_connections: int = 0
    """Of HTTP/2, that went to a server as a whole (docs/fast-path.md)."""
    spliced_requests: int = 0
    """On those; they are not in ``StatusView.requests``."""
    upcalls: dict[str, int] = {}
    """Reason -> how often the kernel passed a client's bytes up, since the programs were first loaded."""
    counters: dict[str, int]
    flows: int


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint of one cluster."""

    cluster: str
    address: str
    port: int
    weight: int
    health: str
    workload: str
    priority: int = 0
    locality: str = ""
    by: str = ""
    """Who says that it is not healthy: ``control plane``, ``probe`` or ``ejection``; empty: it is."""
    reason: str = ""
    """Why it is left out, where we know."""
    seconds: float | None = None
    """For how long it has been left out, where we know."""


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """What this node finds out by itself of endpoints. Counts are since the agent's start."""

    probed: int = 0
    """Endpoints that are."""
    probes: dict[str, int] = {}
    """By result: ``passed``, ``failed``."""
    ejections: dict[str, int] = {}
    """By cause, in the words of Envoy's OutlierEjectionType."""
    overflows: int = 0
    """Endpoints that were to be ejected, had not too many others been."""
    left_out: int = 0
    """Endpoints that are, by probes or ejection; ``examples``: some of them."""
    examples: tuple[EndpointView, ...] = ()


class DemandView(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the cluster's config the node holds: what its workloads use. Counts are since the agent's
    start.
    """

    on: bool = False
    """False: it subscribes to everything."""
    known: int = 0
    """Service ports that there are."""
    used: int = 0
    """Of those, the ones that are in force with all that they refer to."""
    waiting: int = 0
    """Asked for, and not in force yet."""
    asked: int = 0
    """How often one was asked for."""
    fulfilled: int = 0
    """Of those, how many came into force."""
    seconds: float = 0.0
    """The sum of the times that this took."""
    buckets: tuple[int, ...] = (0,) * len(LATENCY_BUCKETS)
    """Cumulative counts for ``LATENCY_BUCKETS``."""


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The node at a glance."""

    node: str
    instance: str
    version: str
    pid: int
    rss_bytes: int
    uptime_seconds: float
    generation: int
    services: int
    endpoints: int
    workloads: int
    requests: int
    """Requests answered since the workers' start."""
    failed_requests: int
    """Of those, answered with a 5xx."""
    control: ControlView
    workers: tuple[WorkerView, ...]
    capture: CaptureView
    objects: tuple[ObjectStatus, ...]
    """Routes, and objects with problems, as the control plane reports them."""
    health: HealthView = HealthView()
    demand: DemandView = DemandView()
    loads: dict[str, dict[str, int]] = {}
    """What is out from the node to each cluster that has limits: connections, pending, requests, retries."""


class WorkloadView(msgspec.Struct, frozen=True, kw_only=True):
    """A pod on this node, as ``meshd workloads`` lists it."""

    namespace: str
    name: str
    uid: str
    ips: tuple[str, ...]
    netns: str
    enrolled: bool
    port: int
    """Of its in-pod listener; 0 while not enrolled."""
    reason: str
    """Why it is not enrolled; empty when it is."""
    fast_path: str = "off"
    """``on`` or ``off``: whether its sockets may be enrolled."""
    fast_path_reason: str = ""
    """Why not, or what is wrong with its annotation."""


class ServiceView(msgspec.Struct, frozen=True, kw_only=True):
    """One port of one service."""

    name: str
    addresses: tuple[str, ...]
    port: int
    protocol: str
    failure_policy: str
    routes: int
    endpoints: int
    healthy: int
    requests: int
    """Of a TCP port: connections that the proxy relayed."""
    fast_requests: int = 0
    """Of those, carried by the kernel."""
    used: bool = True
    """Else the node knows only where it is called: nobody on it has, not of late."""
    upcalls: dict[str, int] = {}
    """Reason -> how often the kernel passed a client's bytes up to the proxy."""


class FlowView(msgspec.Struct, frozen=True, kw_only=True):
    """One captured connection that is open."""

    workload: str
    """``namespace/name`` of the caller."""
    client: str
    """The client's own end, as the proxy sees it."""
    service: str
    """The listener's name; the address where none is known."""
    path: str
    """``kernel``: it carries the requests that it can; ``proxy``: the proxy has all; ``spliced``: it goes to
    one server as a whole."""
    state: str
    """``new`` (the proxy has not armed it, or has disarmed it), ``idle`` or ``busy``. Where it is spliced:
    ``redirected`` (what comes next is the kernel's in both directions), ``relayed`` (in none) or ``half``."""
    carried: int
    """Requests that the kernel carried, or whose first byte it redirected."""
    upcalls: int
    """Messages of the client that went to the proxy."""
    endpoints: tuple[str, ...]
    """Of the upstream connections that the kernel may use for it."""
    age_seconds: float | None
    """None: opened under an earlier version of the programs."""
    current: bool
    """Whether it is armed by the rules in force: else its next request goes to the proxy."""


class FlowsView(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the open connections."""

    flows: tuple[FlowView, ...]
    more: int
    """How many there are beside these."""


class RouteView(msgspec.Struct, frozen=True, kw_only=True):
    """One route of one service port, in the order in which routes are tried."""

    service: str
    callers: str
    """The namespace whose callers it is for; empty: all that have no routes of their own."""
    name: str
    match: str
    action: str
    requests: int
    """Of a TCP route: connections."""


class ExplainedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What ``meshd explain`` asks about."""

    service: str
    """``namespace/name[:port]``; the namespace may be left out: default."""
    method: str = ""
    """Empty: it is about a connection to a TCP port."""
    target: str = ""
    """Path, and query where there is one."""
    server_name: str = ""
    """Of a connection: what a TLS client asks for; empty: it asks for none, or is none."""
    host: str = ""
    """Empty: the service's DNS name."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case; without Host."""
    namespace: str = ""
    """The caller's; empty: one that has no routes of its own."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str | None:
        """What follows "?"; None: no "?" there."""
        _, mark, query = self.target.partition("?")
        return query if mark else None


class ShareView(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster of a route."""

    cluster: str
    weight: int
    endpoints: int
    healthy: int
    policies: tuple[str, ...] = ()
    """Those that shaped the cluster."""
    effects: tuple[str, ...] = ()
    """How its endpoints are used, where it is not the default; for people."""


class ExplanationView(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a request."""

    service: str
    """The service port."""
    namespace: str
    """The caller's, where it has routes of its own; else empty."""
    method: str
    target: str
    host: str
    route: str
    """Its name; empty: no route takes it."""
    rule: int | None
    """Its place among the routes of its virtual host, from 0."""
    match: str
    action: str
    filters: tuple[str, ...] = ()
    """What the route does with it besides sending it on, a text for each, in their order."""
    clusters: tuple[ShareView, ...]
    timeout: float
    """Seconds; 0: none."""
    path: str
    """``kernel``, or ``proxy``."""
    reason: str
    """Why it is the proxy."""
    policies: tuple[str, ...] = ()
    """Those that shaped the route."""
    effects: tuple[str, ...] = ()
    """What else is done with its requests; for people."""
    http2: str = ""
    """What becomes of HTTP/2 connections to a service that wants them spliced; else empty."""
