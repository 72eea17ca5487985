"""A container runtime's sandboxes over the Container Runtime Interface v1 (containerd, cri-o)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TypeVar

import grpc.aio
import inotify_simple
from google.protobuf.message import Message

from meshd import log
from meshd.workloads import cri_pb2 as cri
from meshd.workloads.openable import openable
from meshd.workloads.runtime_info import netns_paths
from meshd.workloads.sandboxes import Sandbox
from meshd.workloads.trouble import Trouble, backoff

_logger = logging.getLogger("meshd.workloads.cri")
_SERVICE = "/runtime.v1.RuntimeService/"
Answer = TypeVar("Answer", bound=Message)

CALL_SECONDS = 5.0
POLL_SECONDS = 1.0
"""Between two lists, where nothing has told that something changed."""
AFTER_A_HINT = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds between the lists after a hint: a sandbox is made known a little after its namespace is made."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What kubelet takes from a runtime."""
NETNS_FOLDERS = (Path("/run/netns"), Path("/var/run/netns"))
"""Where runtimes put the namespaces that they make."""


class CriSandboxes:
    """The sandboxes that are ready: polled, and when the runtime has an event or a namespace is made."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._known: dict[str, Sandbox] = {}
        """By id. A sandbox that is ready does not change."""
        self._hint = asyncio.Event()
        self._trouble = Trouble(_logger, socket)

    async def follow(self) -> AsyncGenerator[tuple[Sandbox, ...], None]:
        """All that are ready, at first and after each change. A runtime that is away is waited for."""
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        async with grpc.aio.insecure_channel(f"unix:{self._socket}", options=options) as channel:
            events = asyncio.create_task(self._follow_events(channel), name="cri-events")
            try:
                with self._watching_namespaces():
                    async for sandboxes in self._lists(channel):
                        yield sandboxes
            finally:
                events.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await events

    async def _lists(self, channel: grpc.aio.Channel) -> AsyncGenerator[tuple[Sandbox, ...], None]:
        last: tuple[Sandbox, ...] | None = None
        hurry: Iterator[float] = iter(())
        while True:
            self._hint.clear()
            try:
                sandboxes = await self._list(channel)
            except grpc.aio.AioRpcError as error:
                self._trouble.met(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(self._trouble.wait())
                continue
            self._trouble.over()
            if sandboxes != last:
                last = sandboxes
                yield sandboxes
            if await self._hinted(next(hurry, POLL_SECONDS)):
                hurry = iter(AFTER_A_HINT)

    async def _hinted(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._hint.wait()
        except TimeoutError:
            return False
        return True

    async def _list(self, channel: grpc.aio.Channel) -> tuple[Sandbox, ...]:
        ready = cri.PodSandboxStateValue(state=cri.SANDBOX_READY)
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(state=ready))
        answer = await _call(channel, "ListPodSandbox", request, cri.ListPodSandboxResponse)
        known = {}
        for item in answer.items:
            sandbox = self._known.get(item.id) or await self._sandbox(channel, item)
            if sandbox is not None:
                known[item.id] = sandbox
        self._known = known
        return tuple(known[each] for each in sorted(known))

    async def _sandbox(self, channel: grpc.aio.Channel, item: cri.PodSandbox) -> Sandbox | None:
        """None: it has gone meanwhile."""
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=item.id, verbose=True)
        try:
            answer = await _call(channel, "PodSandboxStatus", request, cri.PodSandboxStatusResponse)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise
        status = answer.status
        if status.state != cri.SANDBOX_READY:
            return None
        host_network = status.linux.namespaces.options.network == cri.NODE
        netns, problem = "", ""
        if not host_network:
            try:
                netns = openable(netns_paths(answer.info.get("info", "")))
            except ValueError as error:
                problem = str(error)
        first = [status.network.ip] if status.network.ip else []
        return Sandbox(
            id=item.id,
            namespace=item.metadata.namespace,
            name=item.metadata.name,
            uid=item.metadata.uid,
            attempt=item.metadata.attempt,
            labels=dict(item.labels),
            annotations=dict(item.annotations),
            host_network=host_network,
            netns=netns,
            ips=(*first, *(each.ip for each in status.network.additional_ips)),
            problem=problem,
        )

    async def _follow_events(self, channel: grpc.aio.Channel) -> None:
        """Take each event as a hint. A runtime that has none is polled only."""
        waits = backoff()
        while True:
            call = channel.unary_stream(
                f"{_SERVICE}GetContainerEvents",
                request_serializer=cri.GetEventsRequest.SerializeToString,
                response_deserializer=cri.ContainerEventResponse.FromString,
            )(cri.GetEventsRequest())
            try:
                async for _ in call:
                    waits.reset()
                    self._hint.set()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    log.event(_logger, logging.INFO, "runtime has no events", polled_every=POLL_SECONDS)
                    return
            await asyncio.sleep(waits.take())

    @contextlib.contextmanager
    def _watching_namespaces(self) -> Iterator[None]:
        """Take each new or removed namespace as a hint, where there is a folder of them."""
        folders = {folder.resolve() for folder in NETNS_FOLDERS if folder.is_dir()}
        flags = inotify_simple.flags.CREATE | inotify_simple.flags.DELETE
        loop = asyncio.get_running_loop()
        with inotify_simple.INotify(nonblocking=True) as inotify:
            for folder in folders:
                inotify.add_watch(str(folder), flags)

            def drain() -> None:
                inotify.read(timeout=0)
                self._hint.set()

            loop.add_reader(inotify.fileno(), drain)
            try:
                yield
            finally:
                loop.remove_reader(inotify.fileno())


async def _call(channel: grpc.aio.Channel, method: str, request: Message, answer: type[Answer]) -> Answer:
    call = channel.unary_unary(
        _SERVICE + method,
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    made: Answer = await call(request, timeout=CALL_SECONDS)
    return made
