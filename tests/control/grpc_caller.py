"""A gRPC client that finds services over xDS by itself. A process: grpcio reads its bootstrap once.

For each line on standard input, ``TARGET METHOD [NAME=VALUE]…``, makes a call with that metadata and writes a
line: the answer, or the status's name.
"""

from __future__ import annotations

import sys

import grpc

CALL_SECONDS = 60.0


def main() -> None:
    """Until standard input ends."""
    channels: dict[str, grpc.Channel] = {}
    for line in sys.stdin:
        target, method, *pairs = line.split()
        if target not in channels:
            channels[target] = grpc.insecure_channel(f"xds:///{target}")
        metadata = tuple((name, value) for name, _, value in (pair.partition("=") for pair in pairs))
        call = channels[target].unary_unary(method, request_serializer=None, response_deserializer=None)
        try:
            answer = call(b"", timeout=CALL_SECONDS, metadata=metadata).decode()
        except grpc.RpcError as error:
            answer = error.code().name
        print(answer, flush=True)
    for channel in channels.values():
        channel.close()


if __name__ == "__main__":
    main()
