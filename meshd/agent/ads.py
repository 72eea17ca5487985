"""The agent's ADS client over gRPC, feeding decoded config to the agent.

It speaks delta xDS, and state of the world to a server that knows nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeAlias

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import struct_pb2

from meshd import log
from meshd.agent.control_plane import ControlPlane, CredentialsError, Rounds
from meshd.model.snapshot import Delta
from meshd.model.status import ConfigStatus
from meshd.xds.client_stream import ClientStream, Received
from meshd.xds.interest import Want
from meshd.xds.resources import SHORT
from meshd.xds.state_of_the_world import StateOfTheWorld

OnChange = Callable[[Delta], Awaitable[None]]
"""Puts a change into force. The delta's generation is 0: the receiver numbers it. It may be empty when
with this response all that was asked for has come. The response is ACKed when it returns; ``NotAppliedError``
NACKs it."""

_Call = grpc.aio.StreamStreamCall[object, object]
_Response: TypeAlias = discovery_pb2.DeltaDiscoveryResponse | discovery_pb2.DiscoveryResponse

FIRST_BACKOFF = 0.1
MAX_BACKOFF = 10.0
"""Seconds; the bounds of the random wait between two attempts to connect."""
WARMING_TIMEOUT = 15.0
"""Seconds to wait for a cluster's endpoints before it is taken to have none (Envoy's own default)."""
LET_IN_SECONDS = 0.25
"""For a control plane to take or refuse a stream. One that says nothing for so long waits to be asked."""
_OF_AGE = "max connection age"
"""What a gRPC server says that ends a connection only because it is old."""
_logger = logging.getLogger("meshd.agent.ads")


class NotAppliedError(Exception):
    """Raised by ``OnChange``: the change is not in force, and why. The next change contains it again."""


class AdsClient:
    """Keeps an ADS stream to one control plane, to any of its replicas, until it is cancelled.

    Replicas name a resource's versions alike where they are alike (a hash of the content), so a stream to
    another one resumes where the last one ended.
    """

    def __init__(
        self,
        control: ControlPlane,
        node_id: str,
        metadata: Mapping[str, str],
        on_change: OnChange,
        everything: bool = True,
    ) -> None:
        """``everything``: else it holds of a listener only what ``want`` says."""
        details = struct_pb2.Struct()
        details.update(dict(metadata))
        node = base_pb2.Node(id=node_id, user_agent_name="meshd", metadata=details)
        self._control = control
        self._rounds = Rounds(control.targets)
        self._target = ""
        self._on_change = on_change
        self._stream = ClientStream(node, everything)
        self._call: _Call | None = None
        """The stream that there is now."""
        self._knows_delta = True
        """The control plane, as far as is known."""
        self._world: StateOfTheWorld | None = None
        """What the stream speaks in place of delta."""
        self._turn = asyncio.Lock()
        """Responses and wants are taken one at a time."""
        self._wanted = asyncio.Event()
        """Something that was not before."""
        self._backoff = FIRST_BACKOFF
        self.connected = False
        """There is a stream, and a control plane at its other end."""
        self.synced = False
        """All that was asked for has come at least once."""
        self.responses = 0
        """Responses since the client's start."""
        self.nacks = 0
        """Resources, or whole changes, refused since the client's start."""
        self.connects = 0
        """Streams that were opened."""
        self.last_error = ""
        """Why the last stream ended or the last response was refused; empty since one was taken whole."""
        self.version = ""
        """The control plane's name for the config of its last response."""

    @property
    def refused(self) -> dict[str, str]:
        """Of each resource whose newest version is refused, ``CDS name`` and the like, the reason."""
        return self._stream.rejected

    @property
    def status(self) -> ConfigStatus:
        """What the control plane says of the user's objects; without any where it is not one of meshd's."""
        return self._stream.status

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """By type (CDS, ...) and resource name, the version accepted last."""
        return self._stream.versions

    def want(self, names: Iterable[str], want: Want) -> None:
        """What is wanted of listeners from now on: asked for, and put into force, as soon as may be."""
        self._stream.want(names, want)
        self._wanted.set()

    def follow(self, namespaces: Collection[str]) -> None:
        """The namespaces of all callers: for no others are routes wanted. As ``want``."""
        self._stream.follow(namespaces)
        self._wanted.set()

    async def run(self) -> None:
        """Keep a stream, and say on it what is wanted: until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_stream(), name="ads-stream")
            tasks.create_task(self._follow_wants(), name="ads-wants")

    async def _follow_wants(self) -> None:
        while True:
            await self._wanted.wait()
            async with self._turn:
                self._wanted.clear()
                # Without a stream they are said when there is one: it begins with all that is wanted.
                await self._say(self._stream.requests())
                if failure := await self._apply():
                    self.last_error = failure
                    log.event(_logger, logging.WARNING, "not in force", reason=failure)
                # Of what that has replaced.
                await self._say(self._stream.requests())

    async def _say(self, requests: Iterable[discovery_pb2.DeltaDiscoveryRequest]) -> None:
        call = self._call
        if call is not None:
            # Where the stream has ended, who reads from it hears why.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._write(call, requests)

    async def _write(self, call: _Call, requests: Iterable[discovery_pb2.DeltaDiscoveryRequest]) -> None:
        for request in requests:
            if self._world is None:
                await call.write(request)
                continue
            for each in self._world.requests(request):
                await call.write(each)

    async def _keep_stream(self) -> None:
        """Connect, serve the stream, connect again."""
        while True:
            self._target = self._rounds.next()
            try:
                await self._serve()
            except CredentialsError as error:
                reason = str(error)
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    self._knows_delta = not self._knows_delta
            except asyncio.InvalidStateError:
                # Written to a call that had ended in the meantime.
                reason = "the control plane ended the stream"
            else:
                reason = "the control plane ended the stream"
            had_one = self.connected
            self._lost(reason)
            if self._rounds.over or had_one:
                # Full jitter: nodes that lost the same control plane do not come back all at once.
                await asyncio.sleep(random.uniform(0, self._backoff))
            if self._rounds.over:
                self._backoff = min(self._backoff * 2, MAX_BACKOFF)

    def _lost(self, reason: str) -> None:
        level = logging.WARNING if self.connected or self.last_error != reason else logging.DEBUG
        if reason.endswith(_OF_AGE):
            level = logging.INFO
        log.event(_logger, level, "control stream lost", control=self._target, reason=reason)
        if self.connected:
            self._rounds.lost()
        self.connected = False
        self.last_error = reason

    async def _serve(self) -> None:
        async with self._control.channel(self._target) as channel:
            state = channel.get_state(try_to_connect=True)
            while state in (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
            # If it has failed by now, the call says why.
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            self._world = None if self._knows_delta else StateOfTheWorld()
            method = stub.DeltaAggregatedResources if self._knows_delta else stub.StreamAggregatedResources
            call = method(metadata=self._control.metadata())
            try:
                if await _let_in(call):
                    async with self._turn:
                        await self._write(call, self._stream.connected())
                        self._call = call
                    self.connected = True
                    self._backoff = FIRST_BACKOFF
                    self.connects += 1
                    variant = "delta" if self._knows_delta else "state of the world"
                    log.event(
                        _logger, logging.INFO, "control stream up", control=self._target, variant=variant
                    )
                while True:
                    response = await self._read(call)
                    if response is None:
                        return
                    async with self._turn:
                        for each in self._as_delta(response):
                            await self._take(call, each)
            finally:
                self._call = None
                call.cancel()

    def _as_delta(self, response: _Response) -> Iterator[discovery_pb2.DeltaDiscoveryResponse]:
        if isinstance(response, discovery_pb2.DeltaDiscoveryResponse):
            yield response
        elif self._world is not None:
            yield from self._world.responses(response)

    async def _read(self, call: _Call) -> _Response | None:
        """The next response; None at the stream's end. Meanwhile ends the waiting for endpoints."""
        reading = asyncio.ensure_future(call.read())
        try:
            while True:
                timeout = WARMING_TIMEOUT if self._stream.waiting else None
                # Not wait_for: to cancel a read cancels the call.
                done, _ = await asyncio.wait({reading}, timeout=timeout)
                if done:
                    response = reading.result()
                    return response if isinstance(response, _Response) else None
                log.event(
                    _logger,
                    logging.WARNING,
                    "clusters or their endpoints did not come",
                    clusters=",".join(self._stream.waiting[:10]),
                )
                async with self._turn:
                    self._stream.stop_waiting()
                    await self._apply()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                await reading

    async def _take(self, call: _Call, response: discovery_pb2.DeltaDiscoveryResponse) -> None:
        """Put a response into force and answer it."""
        self.connected = True
        self._backoff = FIRST_BACKOFF
        self.responses += 1
        self.version = response.system_version_info
        received = self._stream.received(response)
        failure = await self._apply()
        self._record(received, failure)
        await self._write(call, self._stream.answer(received, failure))

    async def _apply(self) -> str:
        """Have the agent put into force what may be. Returns why not, if it could not."""
        while True:
            delta = self._stream.change()
            now_synced = not self.synced and self._stream.synced
            self.synced = self.synced or now_synced
            if delta is None and not now_synced:
                return ""
            try:
                await self._on_change(delta or Delta(generation=0))
            except NotAppliedError as error:
                return f"not applied: {error}"
            if delta is not None:
                self._stream.in_force(delta)  # which may set free what it has replaced

    def _record(self, received: Received, failure: str) -> None:
        kind = SHORT.get(received.type_url, received.type_url)
        reasons = [f"{kind} {name}: {why}" for name, why in received.rejected.items()]
        if failure:
            reasons.append(failure)
        log.event(
            _logger,
            logging.DEBUG,
            "response",
            type=kind,
            version=received.version,
            accepted=len(received.accepted),
            removed=len(received.removed),
            rejected=len(received.rejected),
        )
        if not reasons:
            self.last_error = ""
            return
        self.nacks += len(reasons)
        self.last_error = reasons[0] if len(reasons) == 1 else f"{reasons[0]} (and {len(reasons) - 1} more)"
        for reason in reasons:
            log.event(_logger, logging.WARNING, "refused", reason=reason, version=received.version)


async def _let_in(call: grpc.aio.StreamStreamCall[object, object]) -> bool:
    """Whether the server has taken the stream, or may have; if not, to read says why.

    It is waited for before anything is written: of a call that ended under a write gRPC forgets the reason.
    """
    answered = asyncio.ensure_future(call.initial_metadata())
    ended = asyncio.ensure_future(call.code())
    try:
        await asyncio.wait({answered, ended}, timeout=LET_IN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        return not call.done()
    finally:
        answered.cancel()
        ended.cancel()
