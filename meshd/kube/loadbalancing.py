"""spec.loadBalancing of an UpstreamPolicy."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from meshd.kube.cross_fields import CrossRule, lasts, needed_for, not_more, only_for
from meshd.kube.httproute import Duration
from meshd.kube.policy_fields import Percent, Token

CookiePath = Annotated[str, Meta(max_length=1024, pattern=r"^/[!-:<-~]*\Z")]
RingSize = Annotated[int, Meta(ge=1, le=8 * 1024 * 1024)]


class SlowStart(Struct, frozen=True, rename="camel"):
    """A new endpoint's share grows from minWeightPercent to its full one."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (lasts("window", "1ms"),)

    window: Annotated[Duration, Meta(description="For how long an endpoint is new.")]
    aggression_percent: Annotated[
        int,
        Meta(ge=1, le=10_000, description="100: grows evenly; more: faster at first; less: slower at first."),
    ] = 100
    min_weight_percent: Annotated[Percent, Meta(description="Of its weight, at the start.")] = 10


class LeastRequest(Struct, frozen=True, rename="camel"):
    """Settings of type LeastRequest."""

    choices: Annotated[
        int, Meta(ge=2, le=100, description="How many endpoints are drawn; the least busy is used.")
    ] = 2


class RingHash(Struct, frozen=True, rename="camel"):
    """Settings of type RingHash."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (not_more("minimum_size", "maximum_size"),)

    minimum_size: Annotated[RingSize, Meta(description="Least entries of the ring: more are evener.")] = 1024
    maximum_size: Annotated[RingSize, Meta(description="Most entries of the ring.")] = 8 * 1024 * 1024


class Maglev(Struct, frozen=True, rename="camel"):
    """Settings of type Maglev."""

    table_size: Annotated[
        Literal[251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65537, 131071, 262139, 524287, 1048573],
        Meta(description="Entries of the table, a prime; a hundred times the endpoints or more."),
    ] = 65537  # fmt: skip


class HashOn(Struct, frozen=True, rename="camel"):
    """Something of a request by which it is hashed."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        needed_for("name", "type", "Header", "Cookie", "QueryParam"),
        only_for("name", "type", "Header", "Cookie", "QueryParam"),
        only_for("path", "type", "Cookie"),
        only_for("ttl", "type", "Cookie"),
    )

    type: Annotated[
        Literal["Header", "Cookie", "QueryParam", "SourceAddress"],
        Meta(description="What it is; SourceAddress is the caller's address."),
    ]
    name: Annotated[Token | None, Meta(description="Of the header, cookie or query parameter.")] = None
    path: Annotated[
        CookiePath | None, Meta(description="Of the cookie that is made where there is none; / by default.")
    ] = None
    ttl: Annotated[
        Duration | None,
        Meta(description="Makes a cookie, for so long, where there is none; unset: none is made."),
    ] = None


class LoadBalancing(Struct, frozen=True, rename="camel"):
    """Which endpoint gets a request."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (
        only_for("slow_start", "type", "RoundRobin", "LeastRequest"),
        only_for("least_request", "type", "LeastRequest"),
        only_for("ring_hash", "type", "RingHash"),
        only_for("maglev", "type", "Maglev"),
        only_for("hash_on", "type", "RingHash", "Maglev"),
        needed_for("hash_on", "type", "RingHash", "Maglev"),
    )

    type: Annotated[
        Literal["RoundRobin", "LeastRequest", "Random", "RingHash", "Maglev"],
        Meta(
            description="RoundRobin: each in turn. LeastRequest: the least busy of some. Random: any. "
            "RingHash, Maglev: the same for the same hash."
        ),
    ] = "RoundRobin"
    least_request: Annotated[LeastRequest | None, Meta(description="For type LeastRequest.")] = None
    ring_hash: Annotated[RingHash | None, Meta(description="For type RingHash.")] = None
    maglev: Annotated[Maglev | None, Meta(description="For type Maglev.")] = None
    slow_start: Annotated[
        SlowStart | None, Meta(description="For types RoundRobin and LeastRequest; unset: none.")
    ] = None
    hash_on: Annotated[
        Annotated[tuple[HashOn, ...], Meta(min_length=1, max_length=8)] | None,
        Meta(description="For RingHash and Maglev: the first that a request has decides."),
    ] = None
    panic_threshold: Annotated[
        Percent,
        Meta(description="With fewer than so many percent of endpoints healthy, all are used. 0: never."),
    ] = 0
