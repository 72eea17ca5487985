"""HTTPRoute (gateway.networking.k8s.io/v1, apis/v1/httproute_types.go), with the CRD's own bounds.

Of the experimental channel, release v1.6.1. What the mesh does not act on is kept as opaque objects, so that
its use is seen and answered.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from meshd.kube.cross_fields import CrossRule, not_more
from meshd.kube.objects import Label, Name, ObjectMeta, PortNumber

GATEWAY_GROUP = "gateway.networking.k8s.io"
Opaque = dict[str, object]
HeaderName = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+\Z")]
Hostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z",
    ),
]
PreciseHostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z",
    ),
]
Kind = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")]
SectionName = Annotated[str, Meta(min_length=1, max_length=253)]
GroupName = Annotated[str, Meta(max_length=253)]
Duration = Annotated[str, Meta(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}\Z")]
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
Origin = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(\*|https?://((\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+|\*)(:[0-9]{1,5})?)\Z",
    ),
]
MAX_INT32 = 2**31 - 1
FieldValue = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x08\x0a-\x1f\x7f]*\Z")]


class PathMatch(Struct, frozen=True, rename="camel"):
    """matches[].path."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class HeaderMatch(Struct, frozen=True, rename="camel"):
    """matches[].headers[]."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=4096)]
    type: Literal["Exact", "RegularExpression"] = "Exact"


class QueryParamMatch(Struct, frozen=True, rename="camel"):
    """matches[].queryParams[]."""

    name: HeaderName
    value: Annotated[str, Meta(min_length=1, max_length=1024)]
    type: Literal["Exact", "RegularExpression"] = "Exact"


class RouteMatch(Struct, frozen=True, rename="camel"):
    """matches[]."""

    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[QueryParamMatch, ...], Meta(max_length=16)] = ()
    method: Method | Literal[""] = ""


class Header(Struct, frozen=True, rename="camel"):
    """A field that a header modifier writes."""

    name: HeaderName
    value: FieldValue


class HeaderModifier(Struct, frozen=True, rename="camel"):
    """requestHeaderModifier, responseHeaderModifier."""

    set: Annotated[tuple[Header, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[Header, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[HeaderName, ...], Meta(max_length=16)] = ()


class PathModifier(Struct, frozen=True, rename="camel"):
    """path of a redirect or rewrite. The type's unknown values are answered, not refused (the API's rule)."""

    type: str
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class RequestRedirect(Struct, frozen=True, rename="camel"):
    """requestRedirect."""

    scheme: str = ""
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: int = 302


class UrlRewrite(Struct, frozen=True, rename="camel"):
    """urlRewrite."""

    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class BackendObjectReference(Struct, frozen=True, rename="camel"):
    """requestMirror.backendRef."""

    name: Name
    group: GroupName = ""
    kind: Kind = "Service"
    namespace: Label | None = None
    port: PortNumber | None = None


class Fraction(Struct, frozen=True, rename="camel"):
    """A share of requests."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (not_more("numerator", "denominator"),)

    numerator: Annotated[int, Meta(ge=0, le=MAX_INT32, description="So many requests.")]
    denominator: Annotated[int, Meta(ge=1, le=MAX_INT32, description="Out of so many.")] = 100


class RequestMirror(Struct, frozen=True, rename="camel"):
    """requestMirror."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: Fraction | None = None


class Cors(Struct, frozen=True, rename="camel"):
    """cors."""

    allow_origins: Annotated[tuple[Origin, ...], Meta(max_length=64)] = ()
    allow_credentials: bool = False
    allow_methods: Annotated[tuple[Method | Literal["*"], ...], Meta(max_length=9)] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], Meta(max_length=64)] = ()
    max_age: Annotated[int, Meta(ge=1, le=MAX_INT32)] = 5


class Filter(Struct, frozen=True, rename="camel"):
    """filters[]. The type's unknown values are answered, not refused (the API's rule)."""

    type: str
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: UrlRewrite | None = None
    request_mirror: RequestMirror | None = None
    cors: Cors | None = None
    external_auth: Opaque | None = None
    extension_ref: Opaque | None = None


class BackendRef(BackendObjectReference, frozen=True, rename="camel"):
    """backendRefs[]."""

    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    filters: Annotated[tuple[Filter, ...], Meta(max_length=16)] = ()


class Timeouts(Struct, frozen=True, rename="camel"):
    """timeouts. Gateway API durations (GEP-2257)."""

    request: Duration | None = None
    backend_request: Duration | None = None


class Retry(Struct, frozen=True, rename="camel"):
    """retry (GEP-1731)."""

    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=1)] | None = None
    backoff: Duration | None = None


class CookieConfig(Struct, frozen=True, rename="camel"):
    """sessionPersistence.cookieConfig."""

    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionPersistence(Struct, frozen=True, rename="camel"):
    """sessionPersistence (GEP-1619)."""

    session_name: Annotated[str, Meta(max_length=128)] = ""
    absolute_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None


class Rule(Struct, frozen=True, rename="camel"):
    """rules[]."""

    name: SectionName = ""
    matches: Annotated[tuple[RouteMatch, ...], Meta(max_length=64)] = ()
    filters: Annotated[tuple[Filter, ...], Meta(max_length=16)] = ()
    backend_refs: Annotated[tuple[BackendRef, ...], Meta(max_length=16)] = ()
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    session_persistence: SessionPersistence | None = None


class ParentRef(Struct, frozen=True, rename="camel"):
    """parentRefs[]."""

    name: Name
    group: GroupName = GATEWAY_GROUP
    kind: Kind = "Gateway"
    namespace: Label | None = None
    section_name: SectionName = ""
    port: PortNumber | None = None


class HTTPRouteSpec(Struct, frozen=True, rename="camel"):
    """spec."""

    parent_refs: Annotated[tuple[ParentRef, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Meta(max_length=16)] = ()
    rules: Annotated[tuple[Rule, ...], Meta(min_length=1, max_length=16)] = (Rule(),)


class HTTPRoute(Struct, frozen=True, rename="camel"):
    """A gateway.networking.k8s.io HTTPRoute, v1 or v1beta1 (which are the same)."""

    metadata: ObjectMeta
    spec: HTTPRouteSpec
