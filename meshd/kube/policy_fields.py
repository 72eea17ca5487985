"""What the fields of several policy kinds are made of."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from meshd.kube.cross_fields import CrossRule, at_most_one, lasts
from meshd.kube.httproute import MAX_INT32, Duration, FieldValue, Fraction, HeaderName
from meshd.kube.objects import Name

Percent = Annotated[int, Meta(ge=0, le=100)]
Count = Annotated[int, Meta(ge=1, le=MAX_INT32)]
Token = HeaderName
"""Header and cookie names alike (RFC 9110, 5.6.2)."""


class Share(Struct, frozen=True, rename="camel"):
    """A share of requests; all of them where nothing is said."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (at_most_one("percent", "fraction"),)

    percent: Annotated[Percent | None, Meta(description="Of a hundred requests.")] = None
    fraction: Annotated[
        Fraction | None, Meta(description="A finer share: numerator of denominator (default 100) requests.")
    ] = None


class HeaderMatch(Struct, frozen=True, rename="camel"):
    """A header field that a request must have."""

    name: Annotated[Token, Meta(description="The field's name, in any case.")]
    value: Annotated[FieldValue, Meta(description="The field's value, or a regular expression (RE2) of it.")]
    type: Annotated[
        Literal["Exact", "RegularExpression"], Meta(description="How value is compared with the whole field.")
    ] = "Exact"


class KeepAlive(Struct, frozen=True, rename="camel"):
    """The other end of an HTTP/2 connection is asked by PING whether it is there, and else given up."""

    RULES: ClassVar[tuple[CrossRule, ...]] = (lasts("interval", "1s"), lasts("timeout", "1s"))

    interval: Annotated[
        Duration, Meta(description="From one answer to the next question, and up to 15 % more.")
    ]
    timeout: Annotated[Duration, Meta(description="Without anything from it after a question.")] = "20s"


SectionName = Annotated[str, Meta(min_length=1, max_length=253)]
TargetName = Annotated[Name, Meta(description="The target's name, in the policy's own namespace.")]

__all__ = [
    "Count",
    "Duration",
    "HeaderMatch",
    "KeepAlive",
    "Percent",
    "SectionName",
    "Share",
    "TargetName",
    "Token",
]
