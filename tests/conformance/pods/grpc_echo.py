"""A gRPC server that says what it saw of a call. Messages are JSON.

The suite's GrpcEcho has Echo, EchoTwo and EchoThree; demo.Streams has calls of the other kinds, and
demo.Calls what goes wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

POD = os.environ["POD"]
ECHO = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho"
Context = grpc.aio.ServicerContext[Any, Any]
Message = dict[str, Any]
_cancelled: Counter[str] = Counter()
_begun: Counter[str] = Counter()


async def echo(request: Message, context: Context) -> Message:
    await context.send_initial_metadata((("x-from", POD),))
    context.set_trailing_metadata((("x-last", POD),))
    fields: dict[str, list[str]] = {}
    for name, value in context.invocation_metadata() or ():
        fields.setdefault(name, []).append(str(value))
    return {"pod": POD, "metadata": fields, "left": context.time_remaining(), "request": request}


async def fail(request: Message, context: Context) -> Message:
    """Without a message, so that the status is in the head."""
    _begun[request.get("key", "")] += 1
    if _begun[request.get("key", "")] <= request.get("times", 1 << 30):
        await context.abort(grpc.StatusCode[request["code"]], request.get("details", ""))
    return {"pod": POD}


async def wait(request: Message, context: Context) -> Message:
    """Until the call is cancelled, which is counted."""
    _begun[request["key"]] += 1
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        _cancelled[request["key"]] += 1
        raise
    raise AssertionError


async def counts(request: Message, context: Context) -> Message:
    return {"pod": POD, "begun": _begun[request["key"]], "cancelled": _cancelled[request["key"]]}


async def many(request: Message, context: Context) -> AsyncIterator[Message]:
    """So many messages of such a size; then ``code``, if there is one."""
    for i in range(request["count"]):
        yield {"pod": POD, "number": i, "text": "x" * request.get("size", 0)}
    if "code" in request:
        await context.abort(grpc.StatusCode[request["code"]], "at the end")


async def collect(requests: AsyncIterator[Message], context: Context) -> Message:
    size = count = 0
    async for request in requests:
        count += 1
        size += len(request.get("text", ""))
    return {"pod": POD, "count": count, "size": size}


async def chat(requests: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
    """An answer to each message, before the next comes; ``code`` ends it at once."""
    async for request in requests:
        if "code" in request:
            await context.abort(grpc.StatusCode[request["code"]], "as you say")
        yield {"pod": POD, "request": request}


def _methods(kind: Any, **methods: Any) -> dict[str, Any]:
    return {name: kind(each, json.loads, _encode) for name, each in methods.items()}


def _encode(message: Message) -> bytes:
    return json.dumps(message).encode()


_SERVICES = {
    ECHO: _methods(grpc.unary_unary_rpc_method_handler, Echo=echo, EchoTwo=echo, EchoThree=echo),
    "demo.Calls": _methods(grpc.unary_unary_rpc_method_handler, Fail=fail, Wait=wait, Counts=counts),
    "demo.Streams": {
        **_methods(grpc.unary_stream_rpc_method_handler, Many=many),
        **_methods(grpc.stream_unary_rpc_method_handler, Collect=collect),
        **_methods(grpc.stream_stream_rpc_method_handler, Chat=chat),
    },
}


async def main() -> None:
    handlers = [grpc.method_handlers_generic_handler(name, each) for name, each in _SERVICES.items()]
    server = grpc.aio.server(handlers=handlers)
    assert server.add_insecure_port("0.0.0.0:7070")
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (2, 15):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(5.0)


asyncio.run(main())
