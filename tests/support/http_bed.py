"""The proxy's HTTP side without capture: on loopback, in a thread, in front of scripted servers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvloop

from meshd import netns
from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.routes import Forward, Route, RouteConfig, VirtualHost, WeightedCluster
from meshd.model.snapshot import Delta
from meshd.model.wire import RequestCounts
from meshd.model.workload import Workload
from proxy.downstream.http1 import Downstream
from proxy.runtime import Runtime
from proxy.telemetry.access_log import AccessLogEntry
from proxy.upstream.caller import Caller, Marks

VIP = "10.96.0.1"
SERVICE_PORT = 80
FORWARD = Route(name="default/web/0", action=Forward(clusters=(WeightedCluster(name="web"),)))


class Log:
    """Access log entries, kept."""

    def __init__(self) -> None:
        self.entries: list[AccessLogEntry] = []

    def write(self, entry: AccessLogEntry) -> None:
        self.entries.append(entry)


def config(
    ports: tuple[int, ...],
    routes: tuple[Route, ...] = (FORWARD,),
    options: HttpOptions | None = None,
    cluster: Cluster | None = None,
    generation: int = 1,
) -> Delta:
    """One service at VIP with one cluster, ``web``, of servers on 127.0.0.1."""
    return Delta(
        generation=generation,
        listeners=(
            Listener(
                name="default/web:80",
                service="default/web",
                addresses=(VIP,),
                port=SERVICE_PORT,
                protocol=Protocol.HTTP,
                cluster="web",
                route_config="default/web:80",
                http=options or HttpOptions(),
            ),
        ),
        route_configs=(
            RouteConfig(name="default/web:80", virtual_hosts=(VirtualHost(name="web", routes=routes),)),
        ),
        clusters=(cluster or Cluster(name="web"),),
        endpoints=(
            EndpointSet(
                name="web", endpoints=tuple(Endpoint(address="127.0.0.1", port=port) for port in ports)
            ),
        ),
    )


class Bed:
    """A running proxy. Methods are called from the test's thread."""

    def __init__(self, delta: Delta) -> None:
        self.log = Log()
        self.present = True
        """Whether clients that finished sending still have their sockets."""
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, args=(delta,), daemon=True)
        self._thread.start()
        self._ready.result(60)

    def _run(self, delta: Delta) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(delta))

    async def _serve(self, delta: Delta) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        home = netns.open_own()
        self.errors: list[str] = []
        self._loop.set_exception_handler(lambda _, context: self.errors.append(repr(context)))
        self.runtime = Runtime(self.log)
        workload = Workload(uid="u", namespace="default", name="client", netns="", ips=("10.1.0.7",))
        self.caller = Caller(self.runtime, workload, home, home, self._marks())
        server = await self._listen(delta)
        self._ready.set_result(None)
        await self._done.wait()
        server.close()
        for connection in tuple(self.runtime.connections):
            connection.close_at_once()
        self.caller.close()
        self.runtime.close()
        await asyncio.sleep(0.01)
        os.close(home)

    def _marks(self) -> Marks:
        """Of upstream sockets."""
        return Marks()

    async def _listen(self, delta: Delta) -> asyncio.Server:
        """Put the first config in force, and accept clients."""
        self.runtime.config.apply(delta)
        listener = self.runtime.config.listener_at(VIP, SERVICE_PORT, "default")
        assert listener is not None
        server = await self._loop.create_server(
            lambda: Downstream(self.runtime, self.caller, listener, present=lambda: self.present),
            "127.0.0.1",
            0,
            backlog=4096,
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the proxy's loop."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()

        def run() -> None:
            action()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(60)

    def apply(self, delta: Delta) -> None:
        """Put a config in force."""

        def apply() -> None:
            self.runtime.config.apply(delta)
            self.caller.config_changed()

        self.call(apply)

    def rows(self) -> tuple[RequestCounts, ...]:
        """The metrics' rows, between two events of the proxy's loop."""
        self.call(lambda: None)
        return self.runtime.stats.snapshot()

    def counter(self, name: str) -> int:
        self.call(lambda: None)
        return self.runtime.counters.snapshot().get(name, 0)

    def connect(self, timeout: float = 60.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.errors == [], self.errors


@contextlib.contextmanager
def bed(delta: Delta) -> Iterator[Bed]:
    running = Bed(delta)
    try:
        yield running
    finally:
        running.close()


Script = Callable[[socket.socket], None]


class Server:
    """A server that runs ``script`` for each connection, in a thread of its own."""

    def __init__(self, script: Script, address: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self.address = address
        self._listener = socket.create_server((address, port), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        self._conversations: list[socket.socket] = []
        self.failures: list[BaseException] = []
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock = self._dressed(sock)
            sock.settimeout(60)
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock:
                self._converse(sock)
        except (OSError, EOFError):
            pass  # the proxy went away, as tests that end early make it do
        except BaseException as error:
            self.failures.append(error)

    def _dressed(self, sock: socket.socket) -> socket.socket:
        """An accepted connection as the script is to have it."""
        return sock

    def _converse(self, sock: socket.socket) -> None:
        self._conversations.append(sock)
        self._script(sock)

    @property
    def connections(self) -> int:
        """Runs of the script."""
        return len(self._conversations)

    def stop_listening(self) -> None:
        """Refuse new connections; those that stand go on. Twice is once."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        assert self.failures == []


@contextlib.contextmanager
def server(script: Script) -> Iterator[Server]:
    running = Server(script)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def refusing_ports(count: int) -> Iterator[tuple[int, ...]]:
    """Ports of 127.0.0.1 where nobody listens, nor will meanwhile: they are taken."""
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in bound:
            sock.bind(("127.0.0.1", 0))
        yield tuple(int(sock.getsockname()[1]) for sock in bound)


def receive_until(sock: socket.socket, end: bytes, data: bytes = b"") -> bytes:
    """``data`` and what follows it, up to and with ``end``; raises EOFError if the stream ends before.

    May read beyond it. In what begins with a head ``end`` had better be nothing that a head can contain: a
    request id is random, and may end in anything.
    """
    while end not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError(f"stream ended after {data!r}")
        data += piece
    return data


def receive_all(sock: socket.socket) -> bytes:
    """Bytes until the stream's end."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


def receive_head(sock: socket.socket) -> bytes:
    return receive_until(sock, b"\r\n\r\n")


def receive_body(sock: socket.socket, end: bytes) -> bytes:
    """What follows a head, up to and with ``end``; the head may contain that too."""
    return receive_until(sock, end, receive_head(sock).partition(b"\r\n\r\n")[2])


def request_heads(sock: socket.socket) -> Iterator[bytes]:
    """The requests that come, which have no body, to the stream's end."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
        head, end, data = data.partition(b"\r\n\r\n")
        yield head + end


def answering(response: bytes, seen: list[bytes] | None = None) -> Script:
    """A server that gives the same response to every request without a body."""

    def script(sock: socket.socket) -> None:
        for head in request_heads(sock):
            if seen is not None:
                seen.append(head)
            sock.sendall(response)

    return script


def by_connection(first: Script, others: Script) -> Script:
    """A server that treats its first connection in another way than the later ones."""
    connections = itertools.count()

    def script(sock: socket.socket) -> None:
        (others if next(connections) else first)(sock)

    return script


def one_answer_then(answer: bytes, then: Script) -> Script:
    """Answers one request, and does as ``then`` says."""

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(answer)
        then(sock)

    return script


def ok(body: bytes = b"hello", *fields: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(field + b"\r\n" for field in fields)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get(path: bytes = b"/", *fields: bytes) -> bytes:
    return (
        b"GET %b HTTP/1.1\r\nHost: web\r\n" % path + b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    )


def read_response(sock: socket.socket, rest: bytes = b"") -> tuple[bytes, bytes, bytes]:
    """Head, body by Content-Length, and what came after it."""
    data = rest
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError(f"stream ended after {data!r}")
        data += piece
    head, _, data = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(data) < length:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError("stream ended within a body")
        data += piece
    return head, data[:length], data[length:]


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Poll until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "condition did not come to hold"
        time.sleep(0.01)
