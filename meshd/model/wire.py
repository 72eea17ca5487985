"""Messages between the agent and its proxy workers, over a Unix stream socket (framing: meshd.fdchannel).

The worker connects; its first message is ``Hello``. File descriptors travel with a message, in the order
that its docstring gives. Messages of one side are handled in order.

Agent and worker may be of different versions for as long as one takes over from the other. Then they
exchange ``Hello``, ``Holding`` and ``Drain`` only: to these, and to ``Workload``, fields are only ever added,
with defaults, and none is removed or changed.
"""

from __future__ import annotations

import msgspec

from meshd.model.listeners import Listener
from meshd.model.outcomes import EndpointTally
from meshd.model.snapshot import Delta
from meshd.model.workload import Workload


class Configure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message to a worker.

    fds: the maps ``flows``, ``heartbeat``, ``armed``, ``connections``, ``upstreams``, ``owners``, ``kept``,
    ``bells``, ``spliced_flows``, ``spliced_armed``, ``spliced``.
    """

    node: str
    mark: int
    """SO_MARK of the proxy's own sockets: capture leaves those alone."""
    plain_mark: int = 0
    """The same, of those whose bytes the kernel never carries: their servers' sockets are not enrolled."""
    heartbeat_interval: float
    """Seconds between two beats."""
    layout: str
    """The JSON of meshd.datapath.loading.layout.Layout: how the maps' keys and values are packed."""
    access_log: str = ""
    """A path, "-" for standard output, "" for none."""
    access_log_format: str = "json"
    """``json``, or ``text`` (Envoy's default format)."""
    fast_path: bool = False
    """Whether the kernel may carry requests."""
    sample: int = 0
    """One in so many requests that the kernel could carry comes to the worker all the same; 0: none. With an
    access log and none, all come, for the log is to be whole."""


class AddWorkload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Serve a workload. fds: its netns, then its in-pod listeners (one or two, IPv4 first)."""

    workload: Workload


class RemoveWorkload(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Stop to accept for a workload and close what it has."""

    uid: str


class Update(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A config change. Answered by ``Applied`` once no new request can be decided by the old config."""

    delta: Delta


class Replace(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The whole config: what a worker has and this does not is gone. Sent to a worker that connects; answered
    as an ``Update`` is."""

    snapshot: Delta
    """From nothing."""


class ShareLimits(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Count together with the other workers what is out to these clusters, instead of what was said before.

    Comes before the config that has their limits. fds: the memory (meshd.limit_page).
    """

    workers: int
    """It has cells for so many."""
    rows: dict[str, int]
    """By cluster name."""
    cell: int = -1
    """Which of them the worker writes; negative: that of its index on the node."""


class Known(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The service that a ``Demand`` was for. What decides on its connections follows with an ``Update``."""

    address: str
    port: int
    listener: Listener | None
    """Cold; None: there is none at this address."""


class Unenrol(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An app reads its socket by splice(2), which does not see what is in the queue of the kernel's map. Take
    the socket out of the map, and send it by TCP what waits there, if the other end is this worker's.

    fds: the map; a socket of NETLINK_SOCK_DIAG in the app's namespace; the app's socket. Without the last one
    the connection is to be reset.
    """

    uid: str
    """The app's workload."""
    server: bool
    """Whether the app is the server; else it is the client."""
    key: bytes
    """In the map."""
    local: tuple[str, int]
    """The app's end: an address in canonical text form and a port."""
    remote: tuple[str, int]
    """This worker's."""


class Collect(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Asks for ``Stats``."""

    request: int


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Accept no more, let requests in flight end, then exit; at the latest after ``seconds``."""

    seconds: float
    idle_seconds: float = 0.0
    """A connection of HTTP/1.1 may wait so long for one more request, whose answer says that it is the last:
    to close it while it is in use would lose a request that is on its way."""


ToWorker = (
    Configure
    | AddWorkload
    | RemoveWorkload
    | Update
    | Replace
    | ShareLimits
    | Known
    | Unenrol
    | Collect
    | Drain
)


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker presents itself, at its start and when it reconnects to a new agent."""

    pid: int
    worker: int
    """Its index on the node, from 0."""
    version: str
    generation: int
    workloads: tuple[str, ...] = ()
    """uids of the workloads that it already serves; each follows as a ``Holding``."""
    build: str = ""
    """The code that it runs (meshd.build), as the agent that started it said."""
    wire: str = ""
    """The messages that it understands, likewise."""
    draining: bool = False
    """It accepts no more and ends soon."""


class Holding(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Gives an in-pod listener back to a new agent, so that it outlives the old one.

    fds: as in ``AddWorkload``.
    """

    workload: Workload


class Applied(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An ``Update`` is in force."""

    generation: int


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An ``AddWorkload`` is in force: connections to its listeners are accepted."""

    uid: str


class RequestCounts(msgspec.Struct, kw_only=True):
    """Requests that ended alike. Counters since the worker's start."""

    service: str
    """The name of the listener: ``namespace/name:port``."""
    route: str
    cluster: str
    source: str
    """``namespace/name`` of the calling workload."""
    method: str
    status: int
    flags: str
    """Envoy's response flags (UH, UF, UC, ...), comma-separated; empty when all went well."""
    grpc_status: str = ""
    """Of a gRPC request: the number, in decimal, or "none" where there was none; empty: it was no gRPC."""
    count: int
    seconds: float
    """Sum of durations."""
    buckets: tuple[int, ...]
    """Cumulative counts for ``LATENCY_BUCKETS``."""


LATENCY_BUCKETS: tuple[float, ...] = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds in seconds; the rest is +Inf."""


class TcpCounts(msgspec.Struct, kw_only=True):
    """TCP connections that were routed alike. Counters since the worker's start."""

    service: str
    """The name of the listener: ``namespace/name:port``."""
    route: str
    cluster: str
    source: str
    """``namespace/name`` of the calling workload."""
    opened: int
    closed: dict[str, int]
    """By Envoy's response flags (UF, UH, UO, NR, ...); empty where all went well."""
    received: int
    """Bytes from clients; likewise ``sent`` to them."""
    sent: int
    seconds: float
    """Sum of the durations of those that are closed."""


class Stats(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A worker's numbers. Counters only grow; gauges are as of now."""

    request: int
    pid: int
    generation: int
    requests: tuple[RequestCounts, ...] = ()
    tcp: tuple[TcpCounts, ...] = ()
    counters: dict[str, int] = {}
    """Names without prefix or unit rules of their own: ``downstream_connections_total``, ..."""
    gauges: dict[str, float] = {}


class Outcomes(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How requests to endpoints ended since the last message of this kind; of clusters that eject outliers.

    Comes unasked, soon after they did.
    """

    endpoints: tuple[EndpointTally, ...]


class Demand(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A connection to a service waits whose config, or the part of it for its caller, is not here.

    Answered by ``Known``. Comes again from a worker that reconnects while the connection waits.
    """

    address: str
    """The VIP, in its canonical text form."""
    port: int
    namespace: str
    """The caller's."""


FromWorker = Hello | Holding | Applied | Enrolled | Stats | Outcomes | Demand
