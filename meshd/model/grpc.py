"""What of gRPC over HTTP shows without reading a message: which requests are its, and its statuses.

Source: gRPC's doc/PROTOCOL-HTTP2.md, statuscodes.md and http-grpc-status-mapping.md. Where they leave
something open, Envoy's meaning (source/common/grpc).
"""

from __future__ import annotations

from collections.abc import Mapping

CONTENT_TYPE = "application/grpc"
CONTENT_TYPE_PATTERN = r"application/grpc([+].*)?"
"""As a regular expression of the whole field (RE2 syntax)."""
OK, UNKNOWN, DEADLINE_EXCEEDED = 0, 2, 4
STATUSES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""Their names, by number."""
_OF_HTTP: Mapping[int, int] = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_AS_HTTP = (
    200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
)  # fmt: skip


def is_grpc(content_type: str) -> bool:
    """Whether a request with this content-type is gRPC. gRPC-Web is not: its answers are framed otherwise."""
    return content_type == CONTENT_TYPE or content_type.startswith(CONTENT_TYPE + "+")


def of_http(status: int) -> int:
    """The gRPC status of an answer that has none, by its HTTP status (http-grpc-status-mapping.md)."""
    return _OF_HTTP.get(status, UNKNOWN)


def as_http(status: int) -> int:
    """The HTTP status that an answer with a gRPC status counts as (Envoy: Utility::grpcToHttpStatus)."""
    return _AS_HTTP[status] if 0 <= status < len(_AS_HTTP) else 500


def name_of(status: str) -> str:
    """A status as people know it: of its number, in decimal. What is none, or no known one, stays."""
    return STATUSES[int(status)] if status.isdecimal() and int(status) < len(STATUSES) else status
