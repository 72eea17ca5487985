"""Answers of the proxy's own, as who asked understands them: HTTP's, or those of a gRPC call. Pure."""

from __future__ import annotations

from typing import NamedTuple

from meshd.model.grpc import of_http
from proxy.exchanges.client import Headers
from proxy.grpc.answers import status_trailers, trailers_only
from proxy.grpc.call import Call
from proxy.http1 import heads
from proxy.http1.field_values import Field
from proxy.http1.refusal import Refusal
from proxy.requests.header_edit import Edit
from proxy.routing.decision import Answer


class OwnAnswer(NamedTuple):
    """A whole response."""

    status: int
    headers: Headers
    body: bytes


def decided(answer: Answer, call: Call | None) -> OwnAnswer:
    """What a route says itself."""
    body = answer.body if call is None else answer.message
    return _for(call, OwnAnswer(answer.status, answer.headers, body), None)


def refused(refusal: Refusal, edit: Edit, call: Call | None) -> OwnAnswer:
    """Why there is no response. ``edit``: what the route does to each answer's head."""
    headers = edit.of_answer((*heads.PLAIN_TEXT, *refusal.headers))
    body = heads.message_body(refusal.message)
    if call is not None:
        body = body.rstrip()  # it is no line of its own there
    return _for(call, OwnAnswer(refusal.status, headers, body), refusal.grpc_status)


def broken_off(refusal: Refusal, call: Call | None) -> list[Field] | None:
    """The trailers of an answer that has begun and ends early; None: it has to be cut.

    gRPC's own servers end a call so whose deadline passes; Envoy resets it.
    """
    if call is None or refusal.grpc_status is None:
        return None
    return status_trailers(refusal.grpc_status, heads.message_body(refusal.message).rstrip())


def _for(call: Call | None, answer: OwnAnswer, grpc_status: int | None) -> OwnAnswer:
    """``grpc_status``: what a call is told; None: what the HTTP status comes to."""
    if call is None:
        return answer
    told = of_http(answer.status) if grpc_status is None else grpc_status
    call.answered(told)
    return OwnAnswer(200, trailers_only(told, answer.headers, answer.body), b"")
