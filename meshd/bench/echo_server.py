"""``python -m meshd.bench.echo_server PORT``: gRPC streams whose every message is sent back (grpc.aio)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_concurrent_streams", 1024))
_GRACE_SECONDS = 0.2


class _EveryMethod(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """All are the same: messages both ways, as bytes."""

    def service(self, _call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.stream_stream_rpc_method_handler(_echo)


async def _echo(messages: AsyncIterator[bytes], _context: Any) -> AsyncIterator[bytes]:
    async for message in messages:
        yield message


async def _serve(port: int) -> None:
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_EveryMethod(),))
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(_GRACE_SECONDS)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
