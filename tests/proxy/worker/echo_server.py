"""A gRPC server that answers with what it is asked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """grpcio's, on the namespace's loopback. It counts its calls, and the connections that they came on."""

    address = "127.0.0.1"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.peers: set[str] = set()
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return grpc.unary_unary_rpc_method_handler(self._say)

    def _say(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.calls += 1
            self.peers.add(context.peer())
        return request

    def close(self) -> None:
        self._server.stop(5).wait()
