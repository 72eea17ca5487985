"""Makes gRPC calls by grpcio, and writes how each ended.

A line on standard input is JSON: a target, and calls, which are made in turn on one channel; a line of the
output is what came of them. A call has a method, what it sends (``request``, or several ``requests`` on a
stream), metadata, a timeout, how often it is made, and whether it is cancelled after ``cancel`` seconds. The
argument says which of grpcio's APIs makes them: sync or aio.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

# A lab's names are in a pod's /etc/hosts; gRPC's own resolver asks name servers, too, and waits for them.
os.environ["GRPC_DNS_RESOLVER"] = "native"

import grpc

Call = dict[str, Any]
Ended = dict[str, Any]
_KINDS = {"Many": "unary_stream", "Collect": "stream_unary", "Chat": "stream_stream"}


def _encode(message: Any) -> bytes:
    return json.dumps(message).encode()


def _method(channel: Any, call: Call) -> Any:
    kind = _KINDS.get(call["method"].rpartition("/")[2], "unary_unary")
    return getattr(channel, kind)(call["method"], _encode, json.loads)


def _arguments(call: Call) -> dict[str, Any]:
    return {"metadata": tuple(call.get("metadata", {}).items()), "timeout": call.get("timeout", 30.0)}


def _ended(messages: list[Any], code: Any, details: str | None, head: Any, last: Any) -> Ended:
    return {
        "code": code.name,
        "details": details or "",
        "messages": messages,
        "head": dict(head or ()),
        "last": {name: str(value) for name, value in last or ()},
    }


def _sync(channel: grpc.Channel, call: Call) -> Ended:
    method, arguments = _method(channel, call), _arguments(call)
    kind = _KINDS.get(call["method"].rpartition("/")[2], "unary_unary")
    what = iter(call["requests"]) if kind.startswith("stream") else call.get("request", {})
    made = method.future(what, **arguments) if kind.endswith("unary") else method(what, **arguments)
    if "cancel" in call:
        threading.Timer(call["cancel"], made.cancel).start()
    messages = []
    try:
        if kind.endswith("unary"):
            messages.append(made.result())
        else:
            messages.extend(made)
    except (grpc.RpcError, grpc.FutureCancelledError):
        pass
    return _ended(messages, made.code(), made.details(), made.initial_metadata(), made.trailing_metadata())


async def _aio(channel: grpc.aio.Channel, call: Call) -> Ended:
    kind = _KINDS.get(call["method"].rpartition("/")[2], "unary_unary")
    what = call["requests"] if kind.startswith("stream") else call.get("request", {})
    made = _method(channel, call)(what, **_arguments(call))
    if "cancel" in call:
        asyncio.get_running_loop().call_later(call["cancel"], made.cancel)
    messages = []
    try:
        if kind.endswith("unary"):
            messages.append(await made)
        else:
            async for message in made:
                messages.append(message)  # noqa: PERF401 - those before an error count, too
    except (grpc.RpcError, asyncio.CancelledError):
        pass
    head = await made.initial_metadata()
    return _ended(messages, await made.code(), await made.details(), head, await made.trailing_metadata())


async def _all_aio(target: str, calls: list[Call]) -> list[list[Ended]]:
    async with grpc.aio.insecure_channel(target) as channel:
        return [[await _aio(channel, call) for _ in range(call.get("times", 1))] for call in calls]


def _all_sync(target: str, calls: list[Call]) -> list[list[Ended]]:
    with grpc.insecure_channel(target) as channel:
        return [[_sync(channel, call) for _ in range(call.get("times", 1))] for call in calls]


def main() -> None:
    (api,) = sys.argv[1:]
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            target, calls = json.loads(line)
            made = runner.run(_all_aio(target, calls)) if api == "aio" else _all_sync(target, calls)
            print(json.dumps(made), flush=True)


main()
