"""What a route does with a request besides sending it on. Envoy's meaning, whose counterpart each names.

Shares are parts per million (type.v3.FractionalPercent): MILLION is every request. Times are in seconds.
"""

from __future__ import annotations

import msgspec

MILLION = 1_000_000


class StringMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named value that must equal ``value``, or wholly match it where ``regex`` is set (RE2 syntax)."""

    name: str
    """Header names in lower case."""
    value: str
    regex: bool = False


GRPC_CONDITIONS = {
    1: "cancelled",
    4: "deadline-exceeded",
    8: "resource-exhausted",
    13: "internal",
    14: "unavailable",
}
"""The gRPC statuses that a request may be sent again for, with Envoy's names of the conditions."""


class Retry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a request is sent again: on another endpoint where there is one (RetryPolicy, previous_hosts)."""

    attempts: int = 1
    """Besides the first (num_retries)."""
    connect_failure: bool = True
    """Nothing of it has been sent, so this is safe for every method (connect-failure)."""
    reset: bool = False
    """The server went, or a try timed out, before a response's head came (reset). Holds connect_failure."""
    statuses: tuple[int, ...] = ()
    """Of the server's response (retriable-status-codes)."""
    grpc_statuses: tuple[int, ...] = ()
    """Of a response that has a gRPC status in its head, as one without messages has: out of
    GRPC_CONDITIONS."""
    per_try_timeout: float = 0.0
    """From when a try has its connection, and the request has come, to its response's head; 0: none.

    As in Envoy: not less than the route's own timeout, it says nothing; and a response that has begun is the
    route's timeout's to end (per_try_timeout).
    """
    backoff: float = 0.025
    """Before the first try again; doubled each time, and fully jittered (retry_back_off.base_interval)."""
    max_backoff: float = 0.25
    """retry_back_off.max_interval."""
    least_backoff: float = 0.0
    """No wait is shorter, whatever the jitter; Envoy knows no such bound (HTTPRouteRetry.backoff)."""


class Mirror(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A copy goes to another cluster, whose answer nobody sees (RouteAction.RequestMirrorPolicy)."""

    cluster: str
    share: int = MILLION


class Cors(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Cross-origin requests: preflights are answered, answers are marked (http.cors.v3.CorsPolicy)."""

    origins: tuple[StringMatch, ...]
    """What Origin may be; ``*`` is any. Their ``name`` is "origin"."""
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age: int = 5
    """Seconds that a browser may keep a preflight's answer; below 0: it is not told."""
    credentials: bool = False
    forward_unmatched: bool = False
    """A preflight of another origin goes to the server (forward_not_matching_preflights). Else it is answered
    without a word of permission, as the Gateway API has it."""


class SessionCookie(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cookie"):
    """The endpoint is named by a cookie (http.stateful_session.cookie.v3.CookieBasedSessionState)."""

    name: str
    path: str = "/"
    ttl: float = 0.0
    """0: until the browser ends its session."""


class SessionHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="header"):
    """The endpoint is named by a header (http.stateful_session.header.v3.HeaderBasedSessionState)."""

    name: str


Session = SessionCookie | SessionHeader


class HashHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="header"):
    """A header's value."""

    name: str


class HashCookie(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="cookie"):
    """A cookie's value; where ``ttl`` is not 0, one is made where it is missing."""

    name: str
    path: str = "/"
    ttl: float = 0.0


class HashQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="query"):
    """A query parameter's value."""

    name: str


class HashSource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="source"):
    """The caller's address."""


HashKey = HashHeader | HashCookie | HashQuery | HashSource
"""What a request is hashed by, for clusters balanced by ring hash or Maglev (RouteAction.HashPolicy)."""


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Delays and failures that are wanted (http.fault.v3.HTTPFault)."""

    delay: float = 0.0
    delay_share: int = 0
    abort: int = 0
    """The status that is answered."""
    abort_share: int = 0
    headers: tuple[StringMatch, ...] = ()
    """Only requests that have all of these."""
    by_header: bool = False
    """The request may ask for its fault itself: x-envoy-fault-delay-request (milliseconds) and
    x-envoy-fault-abort-request (status), up to the shares (HeaderDelay, HeaderAbort). ``delay`` and ``abort``
    are 0 then: Envoy has the one or the other."""
    max_active: int = 0
    """Requests of a worker that have a fault and are not yet at their end, of all routes; beyond them none is
    made (max_active_faults). 0: no limit."""


class TokenBucket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``tokens`` are added every ``interval``, up to ``burst`` (type.v3.TokenBucket). Envoy takes no interval
    under 0.05."""

    tokens: int
    interval: float
    burst: int


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many requests pass, on this node; others are answered 429 (http.local_ratelimit.v3)."""

    all: TokenBucket | None = None
    """All requests together."""
    each_client: TokenBucket | None = None
    """Those of each client address."""
