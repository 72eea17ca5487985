"""Why an exchange fails, as the answer that the client gets, with Envoy's flags and details."""

from __future__ import annotations

from meshd.model import grpc
from meshd.model.clusters import Endpoint
from proxy.http1.refusal import Refusal
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag


def no_cluster(name: str, status: int) -> Refusal:
    """The route's cluster does not exist; ``status`` is what the route says to that."""
    message = f"cluster {name} does not exist"
    return Refusal(status, message, response_flags.joined(Flag.NO_CLUSTER), response_flags.CLUSTER_NOT_FOUND)


def no_endpoint(cluster: str) -> Refusal:
    """No endpoint of the cluster is healthy."""
    message = f"no healthy endpoint in cluster {cluster}"
    flags = response_flags.joined(Flag.NO_HEALTHY_UPSTREAM)
    return Refusal(503, message, flags, response_flags.NO_HEALTHY_UPSTREAM)


def overflow(cluster: str, what: str) -> Refusal:
    """A limit on what is out to a cluster is reached. ``what``: of what there are too many."""
    message = f"cluster {cluster} has too many {what}"
    flags = response_flags.joined(Flag.UPSTREAM_OVERFLOW)
    return Refusal(503, message, flags, response_flags.UPSTREAM_OVERFLOW, (("x-envoy-overloaded", "true"),))


def no_connection(endpoint: Endpoint, reason: str, timed_out: bool) -> Refusal:
    """Refused, unreachable, or no answer in time."""
    message = f"cannot connect to {endpoint.address}:{endpoint.port}: {reason}"
    flags = response_flags.joined(Flag.UPSTREAM_CONNECT_FAILURE)
    details = response_flags.UPSTREAM_CONNECT_TIMEOUT if timed_out else response_flags.UPSTREAM_CONNECT_FAILED
    return Refusal(503, message, flags, details)


def closed_unanswered() -> Refusal:
    """The server ended the connection before the first byte of its answer.

    503, as in Envoy: there is no response that could be bad (RFC 9110, 15.6.3), and the next try may well get
    one (15.6.4). So has the Gateway API's HTTPRouteRetryConnectionError it.
    """
    message = "the server closed the connection before it answered"
    flags = response_flags.joined(Flag.UPSTREAM_TERMINATED)
    return Refusal(503, message, flags, response_flags.UPSTREAM_RESET_BEFORE_RESPONSE)


def reset_unanswered(code: str) -> Refusal:
    """The server reset the request's stream before its answer; ``code``: its name (RFC 9113, 7)."""
    return _reset(f"the server reset the request: {code}", response_flags.UPSTREAM_REMOTE_RESET)


def reset_within(code: str) -> Refusal:
    """The server reset the stream after its answer had begun."""
    details = response_flags.UPSTREAM_REMOTE_RESET_AFTER_RESPONSE
    return _reset(f"the server reset the response: {code}", details)


def _reset(message: str, details: str) -> Refusal:
    return Refusal(503, message, response_flags.joined(Flag.UPSTREAM_RESET), details)


def bad_response(reason: str) -> Refusal:
    """What the server sent cannot be passed on."""
    message = f"bad response from the server: {reason}"
    flags = response_flags.joined(Flag.UPSTREAM_PROTOCOL_ERROR)
    return Refusal(502, message, flags, response_flags.UPSTREAM_PROTOCOL_ERROR)


def bad_request_body(reason: str) -> Refusal:
    """The request's body is not framed as it should be."""
    flags = response_flags.joined(Flag.DOWNSTREAM_PROTOCOL_ERROR)
    return Refusal(400, reason, flags, response_flags.CODEC_ERROR)


def route_timeout(seconds: float) -> Refusal:
    """The route's time for a complete response is over."""
    message = f"no complete response within {seconds:g} s"
    flags = response_flags.joined(Flag.UPSTREAM_TIMEOUT)
    return Refusal(504, message, flags, response_flags.RESPONSE_TIMEOUT)


def deadline(seconds: float, request_done: bool) -> Refusal:
    """A gRPC call's own time is over."""
    message = f"the call was not complete within its deadline, {seconds:g} s"
    flags = response_flags.joined(Flag.DURATION_TIMEOUT)
    status = 504 if request_done else 408
    return Refusal(status, message, flags, response_flags.MAX_DURATION, grpc_status=grpc.DEADLINE_EXCEEDED)


def try_timeout(seconds: float) -> Refusal:
    """A try's time for a response's head is over."""
    message = f"no response within {seconds:g} s"
    flags = response_flags.joined(Flag.UPSTREAM_TIMEOUT)
    return Refusal(504, message, flags, response_flags.PER_TRY_TIMEOUT)


def stream_idle(seconds: float, request_done: bool) -> Refusal:
    """No byte for too long, from the side whose turn it was."""
    status, side = (504, "server") if request_done else (408, "client")
    flags = response_flags.joined(Flag.STREAM_IDLE_TIMEOUT)
    message = f"no byte from the {side} within {seconds:g} s"
    return Refusal(status, message, flags, response_flags.STREAM_IDLE_TIMEOUT)


def truncated(reason: str = "") -> Refusal:
    """The response broke off after its head; ``reason``: its framing is broken, else the connection ended."""
    if reason:
        return bad_response(reason)
    flags = response_flags.joined(Flag.UPSTREAM_TERMINATED)
    return Refusal(502, "the response broke off", flags, response_flags.UPSTREAM_RESET_AFTER_RESPONSE)
