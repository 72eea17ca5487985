"""Why a request is answered by the proxy itself and not by a server."""

from __future__ import annotations

import http

_EXTRA_REASONS = {431: "Request Header Fields Too Large"}


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """An answer of the proxy's own: status, what to tell the client, and what to write in the log."""

    def __init__(
        self,
        status: int,
        message: str,
        flags: str,
        details: str,
        headers: tuple[tuple[str, str], ...] = (),
        grpc_status: int | None = None,
    ) -> None:
        """``flags``: Envoy's response flags. ``details``: Envoy's response code details.

        ``headers``: beside those that every such answer has. ``grpc_status``: what a gRPC client is told;
        None: what the status comes to.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.flags = flags
        self.details = details
        self.headers = headers
        self.grpc_status = grpc_status


def reason_phrase(status: int) -> str:
    """The standard phrase of a status (RFC 9110, 15); empty where there is none."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return _EXTRA_REASONS.get(status, "")
