"""The ADS server: every stream gets the resources it asks for, and what changes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from meshd import __version__, log
from meshd.control.access import NOTHING_ASKED, Access, UnauthenticatedError
from meshd.control.identity import Identity, why_not
from meshd.xds import grpc_listeners
from meshd.xds.delta_stream import DeltaStream
from meshd.xds.namespaces import Namespaces
from meshd.xds.nearness import Place
from meshd.xds.places import Places
from meshd.xds.resources import SHORT, ResourceSet
from meshd.xds.server_stream import Rejection, StreamError
from meshd.xds.sotw_stream import SotwStream

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
NOWHERE = Place()
AGENT = "meshd"
"""The user agent of our agents."""
NAMESPACE = "NAMESPACE"
"""In a node's metadata."""
MAX_STREAMS = 10_000
STOP_SECONDS = 2.0
"""How long streams have for their last write at a stop."""
MAX_CONNECTION_SECONDS = 1800.0
"""A connection is ended at this age, give or take a tenth: so its client shows again who it is, and replicas
that were started later get their share of clients (Istio's keepaliveMaxServerConnectionAge)."""
_CONNECTION_GRACE_MS = 1_000
_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.so_reuseport", 0),
    # Clients ping to notice our death: that is no abuse. And we notice theirs.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
)
_logger = logging.getLogger("meshd.control.ads")


@dataclass(eq=False, slots=True)
class Stream:
    """One client's stream."""

    machine: DeltaStream | SotwStream
    peer: str
    kind: str
    """``delta`` or ``sotw``."""
    identities: tuple[Identity, ...]
    """That the client has shown to have."""
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    node: str = ""
    """The client's id, once it has said it."""
    namespace: str = ""
    """That its callers are all of; empty: of several."""
    place: Place = NOWHERE
    """Where its callers are."""
    grpc: bool = False
    """A gRPC client that routes its calls itself."""
    rejections: dict[str, Rejection] = field(default_factory=dict)
    """The last NACK of each type (CDS, ...) whose last response was refused."""


class DeniedError(Exception):
    """The client says to be what it is not; the stream ends with this message."""


class AdsServer:
    """Serves one resource set, the newest, to any number of streams."""

    def __init__(
        self, access: Access = NOTHING_ASKED, max_connection_seconds: float = MAX_CONNECTION_SECONDS
    ) -> None:
        self._resources = Namespaces(ResourceSet())
        self._places = Places(ResourceSet())
        self._published = asyncio.Event()
        self.streams: set[Stream] = set()
        self.nacks = 0
        """Since the start."""
        self._stopping = False
        self._access = access
        age = (
            ("grpc.max_connection_age_ms", round(max_connection_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", _CONNECTION_GRACE_MS),
        )
        self._server = grpc.aio.server(options=_OPTIONS + age, maximum_concurrent_rpcs=MAX_STREAMS)
        handlers = {
            "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self._sotw,
                request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
                response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
            ),
            "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(
                self._delta,
                request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
                response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def listen(self, address: str) -> int:
        """Take HOST:PORT or unix:PATH. Returns the port (1 for a path). Raises RuntimeError, TlsFileError."""
        credentials = None if address.startswith("unix:") else self._access.credentials()
        if credentials is None:
            return int(self._server.add_insecure_port(address))
        return int(self._server.add_secure_port(address, credentials))

    async def start(self) -> None:
        """Begin to accept streams."""
        await self._server.start()

    async def stop(self) -> None:
        """End all streams and close the listeners."""
        self._stopping = True
        self._published.set()
        for stream in self.streams:
            stream.wake.set()
        await self._server.stop(STOP_SECONDS)

    def publish(self, resources: ResourceSet) -> None:
        """Serve these from now on. Streams move on by themselves, each at its own pace."""
        self._resources = Namespaces(resources, self._resources)
        self._places = Places(resources, self._places)
        self._published.set()
        for stream in self.streams:
            stream.machine.publish(self._for(stream))
            stream.wake.set()

    def _for(self, stream: Stream) -> ResourceSet:
        """What a client gets."""
        resources = self._places.seen_from(self._resources.of(stream.namespace), stream.place)
        return grpc_listeners.view(resources, stream.namespace) if stream.grpc else resources

    async def _sotw(
        self,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest],
        context: grpc.aio.ServicerContext[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse],
    ) -> None:
        await self._serve(SotwStream, "sotw", requests, context)

    async def _delta(
        self,
        requests: AsyncIterator[discovery_pb2.DeltaDiscoveryRequest],
        context: grpc.aio.ServicerContext[
            discovery_pb2.DeltaDiscoveryRequest, discovery_pb2.DeltaDiscoveryResponse
        ],
    ) -> None:
        await self._serve(DeltaStream, "delta", requests, context)

    async def _serve(
        self,
        machine: type[DeltaStream] | type[SotwStream],
        kind: str,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest],
        context: grpc.aio.ServicerContext[
            discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest,
            discovery_pb2.DiscoveryResponse | discovery_pb2.DeltaDiscoveryResponse,
        ],
    ) -> None:
        peer = context.peer()
        try:
            identities = await self._access.identify(context)
        except UnauthenticatedError as error:
            log.event(_logger, logging.WARNING, "stream refused", peer=peer, reason=error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        # So that the client knows to be let in, though there may be nothing for it to be sent.
        await context.send_initial_metadata(())
        # Not earlier: what is published while we wait is for the streams that there are.
        stream = Stream(machine(self._resources.of("")), peer, kind, identities)
        self.streams.add(stream)
        reading = asyncio.ensure_future(self._receive(stream, requests))

        def ended(task: asyncio.Future[None]) -> None:
            # Taken here, too, for a write may fail first and nobody ask then.
            if not task.cancelled():
                task.exception()
            stream.wake.set()

        reading.add_done_callback(ended)
        try:
            # Nothing is said before there is something to say: an empty first answer would be obeyed.
            await self._published.wait()
            while not reading.done() and not self._stopping:
                stream.wake.clear()
                while (response := stream.machine.next_response()) is not None:
                    response.control_plane.CopyFrom(base_pb2.ControlPlane(identifier=f"meshd/{__version__}"))
                    await context.write(response)
                await stream.wake.wait()
            if reading.done():
                reading.result()
        except StreamError as error:
            log.event(_logger, logging.WARNING, "stream refused", node=stream.node, reason=error)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except DeniedError as error:
            log.event(_logger, logging.WARNING, "stream refused", peer=stream.peer, reason=error)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        finally:
            reading.cancel()
            self.streams.discard(stream)
            log.event(
                _logger, logging.INFO, "stream ended", node=stream.node, peer=stream.peer, kind=stream.kind
            )

    async def _receive(
        self,
        stream: Stream,
        requests: AsyncIterator[discovery_pb2.DiscoveryRequest | discovery_pb2.DeltaDiscoveryRequest],
    ) -> None:
        """Take the client's requests until it ends its side. Raises StreamError, DeniedError."""
        begun = False
        async for request in requests:
            if not begun:
                self._begin(stream, request.node)
                begun = True
            rejection = stream.machine.received(request)
            kind = SHORT.get(request.type_url, request.type_url)
            if rejection is not None:
                self.nacks += 1
                stream.rejections[kind] = rejection
                log.event(
                    _logger,
                    logging.WARNING,
                    "resources refused",
                    node=stream.node,
                    type=kind,
                    reason=rejection.message,
                )
            elif request.response_nonce:
                stream.rejections.pop(kind, None)
            stream.wake.set()

    def _begin(self, stream: Stream, node: base_pb2.Node) -> None:
        """Take what the client's first request says of itself: later ones need not. Raises DeniedError."""
        stream.node = node.id
        stream.namespace = _namespace(node)
        if reason := why_not(stream.identities, stream.node, stream.namespace):
            raise DeniedError(reason)
        stream.place = _place(node)
        stream.grpc = node.user_agent_name.startswith(grpc_listeners.AGENT)
        stream.machine = type(stream.machine)(self._for(stream))  # nothing has been sent yet
        log.event(
            _logger,
            logging.INFO,
            "stream began",
            node=stream.node,
            agent=node.user_agent_name or "unknown",
            peer=stream.peer,
            kind=stream.kind,
            identity=",".join(identity.user for identity in stream.identities) or "not asked for",
        )


def _place(node: base_pb2.Node) -> Place:
    """The zone and node that a client says to be in; an agent's id is its node's name."""
    agents = node.id if node.user_agent_name == AGENT else ""
    return Place(str(node.locality.zone), str(node.locality.sub_zone or agents))


def _namespace(node: base_pb2.Node) -> str:
    """The namespace of the pod that a client is a sidecar of, in the place where Istio's agents say it."""
    value = node.metadata.fields.get(NAMESPACE)
    return str(value.string_value) if value is not None else ""
