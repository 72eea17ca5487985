"""Real servers of HTTP/2 behind the proxy: gRPC's, in both its Python forms, and Node's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import grpc.aio
import pytest

from meshd.gateway.retries import CONNECT_RETRY
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.upstream.http2_pool import Http2Pool
from tests.support.http2_client import Http2Client
from tests.support.http_bed import Bed, bed, config, eventually, get, read_response

HTTP2 = Cluster(name="web", http_version=HttpVersion.HTTP2)
_ROUTE = Route(name="r", action=Forward(clusters=(WeightedCluster(name="web"),), retry=CONNECT_RETRY))
Handler = grpc.RpcMethodHandler
_MANY = 50


class _Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """One method of each kind."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        match handler_call_details.method:
            case "/echo/One":
                return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
            case "/echo/Many":
                return grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request] * _MANY))
            case "/echo/Sum":
                return grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests))
            case "/echo/Each":
                return grpc.stream_stream_rpc_method_handler(lambda requests, _: (each for each in requests))
            case "/echo/Fail":
                return grpc.unary_unary_rpc_method_handler(
                    lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
                )
        return None


class GrpcServer:
    """grpcio's, with threads."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((_Echo(),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        """As a pod that ends: what it has may end, and new calls are turned away."""
        self._server.stop(5).wait()


class _AioEcho(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        async def one(request: bytes, _: object) -> bytes:
            return request

        async def many(request: bytes, _: object) -> object:
            for _each in range(_MANY):
                yield request

        async def total(requests: object, _: object) -> bytes:
            return b"".join([each async for each in requests])  # type: ignore[attr-defined]

        async def each(requests: object, _: object) -> object:
            async for request in requests:  # type: ignore[attr-defined]
                yield request

        async def fail(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")

        handlers = {
            "/echo/One": grpc.unary_unary_rpc_method_handler(one),
            "/echo/Many": grpc.unary_stream_rpc_method_handler(many),
            "/echo/Sum": grpc.stream_unary_rpc_method_handler(total),
            "/echo/Each": grpc.stream_stream_rpc_method_handler(each),
            "/echo/Fail": grpc.unary_unary_rpc_method_handler(fail),
        }
        return handlers.get(handler_call_details.method)


class AioServer:
    """grpcio's on an event loop, in a thread of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_AioEcho(),))
        self.port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._ready.set()
        await self._end.wait()
        await server.stop(5)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def channel(proxy: Bed) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{proxy.port}", [("grpc.use_local_subchannel_pool", 1)]) as opened:
        yield opened


@pytest.mark.parametrize("kind", [GrpcServer, AioServer], ids=["sync", "aio"])
def test_all_kinds_of_calls(kind: Callable[[], GrpcServer | AioServer]) -> None:
    with (
        contextlib.closing(kind()) as server,
        bed(config((server.port,), cluster=HTTP2)) as proxy,
        channel(proxy) as client,
    ):
        big = bytes(200_000)
        assert client.unary_unary("/echo/One", None, None)(b"hello", timeout=20) == b"hello"
        assert list(client.unary_stream("/echo/Many", None, None)(b"x", timeout=20)) == [b"x"] * _MANY
        assert client.stream_unary("/echo/Sum", None, None)(iter([b"a", b"b"]), timeout=20) == b"ab"
        assert (
            list(client.stream_stream("/echo/Each", None, None)(iter([big] * 10), timeout=20)) == [big] * 10
        )
        with pytest.raises(grpc.RpcError) as failed:
            client.unary_unary("/echo/Fail", None, None)(b"", timeout=20)
        assert (failed.value.code(), failed.value.details()) == (
            grpc.StatusCode.NOT_FOUND,
            "there is none",
        )
        assert proxy.counter("upstream_connections_total") == 1


def test_a_rolling_restart_fails_no_call() -> None:
    """Under load each server is taken out, and another takes its place; then it ends.

    It may not end earlier: what grpcio's server has accepted and not begun by then, it cancels itself.
    """
    servers = [GrpcServer() for _ in range(2)]
    done = itertools.count()
    failures: list[grpc.RpcError] = []
    calls = 0
    over = threading.Event()

    def ports() -> tuple[int, ...]:
        return tuple(each.port for each in servers)

    def is_past(number: int) -> bool:
        return calls > number

    def is_left(port: int) -> bool:
        """Whether it has answered all that it got."""
        pools = [each for each in tuple(proxy.runtime.timed) if isinstance(each, Http2Pool)]
        return all(len(pool) == 0 for pool in pools if pool.address[1] == port)

    def call() -> None:
        nonlocal calls
        with channel(proxy) as client:
            one = client.unary_unary("/echo/One", None, None)
            while not over.is_set():
                try:
                    assert one(b"hello", timeout=20) == b"hello"
                except grpc.RpcError as error:
                    failures.append(error)
                calls = next(done)

    with bed(config(ports(), (_ROUTE,), cluster=HTTP2)) as proxy:
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for generation in range(2, 6):
                enough = calls + 30
                eventually(partial(is_past, enough), 30)
                servers.append(GrpcServer())
                ending = servers.pop(0)
                proxy.apply(config(ports(), (_ROUTE,), cluster=HTTP2, generation=generation))
                eventually(partial(is_left, ending.port), 30)
                ending.close()
        finally:
            over.set()
            for thread in threads:
                thread.join(30)
            for server in servers:
                server.close()
        assert failures == []
        assert {row.status for row in proxy.rows()} == {200}
        assert proxy.counter("upstream_connections_total") >= 6


_NODE = """
const server = require("http2").createServer();
server.on("stream", (stream, headers) => {
  const pieces = [];
  stream.on("data", (piece) => pieces.push(piece));
  stream.on("end", () => {
    stream.additionalHeaders({ ":status": 103, link: "</x>" });
    stream.respond({ ":status": 200, "x-path": headers[":path"] }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": String(pieces.length) }));
    stream.end(Buffer.concat(pieces));
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.on("end", () => process.exit()).resume();
"""


@pytest.fixture
def node() -> Iterator[int]:
    """The port of a server of Node's."""
    command = ["node", "-e", _NODE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate(timeout=20)


def test_node(node: int) -> None:
    with bed(config((node,), cluster=HTTP2)) as proxy:
        with Http2Client(proxy.connect()) as client:
            stream = client.request(client.head(b"POST", b"/a"), ended=False)
            client.session.finish(stream, b"hello")
            client.flush()
            answer = client.answer(stream)
            assert (answer.statuses, answer.body) == ([103, 200], b"hello")
            assert (answer.final[b"x-path"], answer.trailers) == (b"/a", [(b"x-sum", b"1")])
        with proxy.connect() as plain:
            plain.sendall(get(b"/b"))
            assert read_response(plain)[0].startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </x>")
