"""Why a request ended as it did, in Envoy's words: response flags and response code details.

Source: Envoy docs, "Access logging", %RESPONSE_FLAGS% and "Response code details".
"""

from __future__ import annotations

import enum
from typing import Final


class Flag(enum.StrEnum):
    """A response flag. A request may have several; ``joined`` writes them."""

    DOWNSTREAM_TERMINATED = "DC"
    """The client went away before the response was complete."""
    DELAY_INJECTED = "DI"
    """The route's fault policy had the request wait."""
    DOWNSTREAM_PROTOCOL_ERROR = "DPE"
    DURATION_TIMEOUT = "DT"
    FAULT_INJECTED = "FI"
    """The route's fault policy gave the answer."""
    LOCAL_RESET = "LR"
    NO_CLUSTER = "NC"
    NO_ROUTE = "NR"
    OVERLOAD = "OM"
    RATE_LIMITED = "RL"
    STREAM_IDLE_TIMEOUT = "SI"
    UPSTREAM_TERMINATED = "UC"
    """The server closed the connection while a request was out."""
    UPSTREAM_CONNECT_FAILURE = "UF"
    NO_HEALTHY_UPSTREAM = "UH"
    UPSTREAM_OVERFLOW = "UO"
    """A bound of ours: too many connections or requests wait for the cluster."""
    UPSTREAM_PROTOCOL_ERROR = "UPE"
    UPSTREAM_RESET = "UR"
    """The server took back a request, or its answer."""
    UPSTREAM_RETRY_LIMIT = "URX"
    """The last try has failed that the route allows."""
    UPSTREAM_TIMEOUT = "UT"


def joined(*flags: Flag) -> str:
    """Flags as the access log and the metrics write them: comma-separated, in the order given."""
    return ",".join(flags)


# fmt: off
_ENVOYS_ORDER = (
    "UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE", "DC", "URX", "SI", "IH",
    "DPE", "UMSDR", "RFCF", "NFCF", "DT", "UPE", "NC", "OM",
)
# fmt: on


def with_earlier(earlier: str, flags: str) -> str:
    """Flags of a request that had others before, in the order in which Envoy writes them."""
    if not earlier or not flags:
        return earlier or flags
    return ",".join(sorted({*earlier.split(","), *flags.split(",")}, key=_ENVOYS_ORDER.index))


VIA_UPSTREAM: Final = "via_upstream"
DIRECT_RESPONSE: Final = "direct_response"
ROUTE_NOT_FOUND: Final = "route_not_found"
CORS_RESPONSE: Final = "cors_response"
FAULT_ABORT: Final = "fault_filter_abort"
RATE_LIMITED: Final = "local_rate_limited"
CLUSTER_NOT_FOUND: Final = "cluster_not_found"
NO_HEALTHY_UPSTREAM: Final = "no_healthy_upstream"
NO_WEIGHT: Final = "no_cluster_has_weight"
"""Ours: Envoy refuses such a config, the Gateway API answers 500."""
RESPONSE_TIMEOUT: Final = "response_timeout"
MAX_DURATION: Final = "max_duration_timeout"
PER_TRY_TIMEOUT: Final = "upstream_per_try_timeout"
REQUEST_HEADER_TIMEOUT: Final = "request_header_timeout"
STREAM_IDLE_TIMEOUT: Final = "stream_idle_timeout"
DOWNSTREAM_REMOTE_DISCONNECT: Final = "downstream_remote_disconnect"
UPSTREAM_CONNECT_FAILED: Final = "upstream_reset_before_response_started{connection_failure}"
UPSTREAM_CONNECT_TIMEOUT: Final = "upstream_reset_before_response_started{connection_timeout}"
UPSTREAM_OVERFLOW: Final = "upstream_reset_before_response_started{overflow}"
UPSTREAM_RESET_BEFORE_RESPONSE: Final = "upstream_reset_before_response_started{connection_termination}"
UPSTREAM_PROTOCOL_ERROR: Final = "upstream_reset_before_response_started{protocol_error}"
UPSTREAM_RESET_AFTER_RESPONSE: Final = "upstream_reset_after_response_started{connection_termination}"
UPSTREAM_REMOTE_RESET: Final = "upstream_reset_before_response_started{remote_reset}"
UPSTREAM_REMOTE_RESET_AFTER_RESPONSE: Final = "upstream_reset_after_response_started{remote_reset}"
LOW_VERSION: Final = "low_version"
MISSING_HOST: Final = "missing_host_header"
CODEC_ERROR: Final = "http1.codec_error"
HEADERS_TOO_LARGE: Final = "http1.headers_too_large"
INVALID_URL: Final = "http1.invalid_url"
INVALID_TRANSFER_ENCODING: Final = "http1.invalid_transfer_encoding"
LENGTH_AND_CHUNKED: Final = "http1.content_length_and_chunked_not_allowed"
