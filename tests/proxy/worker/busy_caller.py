"""A gRPC client that makes unary calls over one channel, from several threads, until standard input ends.

Then it writes how many were answered, and what came of the others, as JSON.
"""

from __future__ import annotations

import json
import sys
import threading

import grpc

_SIZES = (10, 10, 1000, 100_000)
"""Of requests, in bytes, by thread."""
_CALL_SECONDS = 60.0


def main() -> None:
    """``argv``: the target."""
    target = sys.argv[1]
    ended = threading.Event()
    answered = [0] * len(_SIZES)
    failures: list[str] = []

    def run(index: int, channel: grpc.Channel) -> None:
        call = channel.unary_unary("/demo.Echo/Say", request_serializer=None, response_deserializer=None)
        while not ended.is_set():
            request = b"%d:%d;" % (index, answered[index]) + bytes(_SIZES[index])
            try:
                answer = call(request, timeout=_CALL_SECONDS)
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
                return
            if answer != request:
                failures.append(f"thread {index}: another answer")
                return
            answered[index] += 1

    with grpc.insecure_channel(target) as channel:
        threads = [threading.Thread(target=run, args=(index, channel)) for index in range(len(_SIZES))]
        for thread in threads:
            thread.start()
        sys.stdin.read()
        ended.set()
        for thread in threads:
            thread.join()
    print(json.dumps({"answered": sum(answered), "failures": failures}), flush=True)


if __name__ == "__main__":
    main()
