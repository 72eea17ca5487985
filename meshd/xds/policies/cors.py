"""Cors and its xDS counterpart, the CORS filter's policy of a route."""

from __future__ import annotations

from envoy.extensions.filters.http.cors.v3 import cors_pb2
from google.protobuf import wrappers_pb2

from meshd.model.request_policies import MILLION, Cors
from meshd.xds import shares, string_matches
from meshd.xds.packing import wrapped
from meshd.xds.unsupported import UnsupportedError, only

_ORIGIN = "origin"
_UNSAID = -1
"""As a maximal age: a preflight's answer does not tell it."""


def write(model: Cors) -> cors_pb2.CorsPolicy:
    """The policy."""
    return cors_pb2.CorsPolicy(
        allow_origin_string_match=[string_matches.write(each) for each in model.origins],
        allow_methods=", ".join(model.methods),
        allow_headers=", ".join(model.headers),
        expose_headers=", ".join(model.expose),
        max_age=str(model.max_age) if model.max_age >= 0 else "",
        allow_credentials=wrappers_pb2.BoolValue(value=model.credentials),
        forward_not_matching_preflights=wrappers_pb2.BoolValue(value=model.forward_unmatched),
    )


def read(message: cors_pb2.CorsPolicy, name: str, where: str) -> Cors:
    """The reverse of ``write``. Raises UnsupportedError."""
    only(
        message,
        {"allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age",
         "allow_credentials", "filter_enabled", "forward_not_matching_preflights"},
        name,
        where,
    )  # fmt: skip
    if message.HasField("filter_enabled"):
        here = f"{where}.filter_enabled"
        if shares.read_runtime(message.filter_enabled, name, here) != MILLION:
            raise UnsupportedError(name, here, "only 100 %")
    if message.max_age and not message.max_age.isdecimal():
        raise UnsupportedError(name, f"{where}.max_age", "must be a whole number of seconds")
    return Cors(
        origins=tuple(
            string_matches.read(each, _ORIGIN, name, f"{where}.allow_origin_string_match[{i}]")
            for i, each in enumerate(message.allow_origin_string_match)
        ),
        methods=_list(message.allow_methods),
        headers=_list(message.allow_headers),
        expose=_list(message.expose_headers),
        max_age=int(message.max_age) if message.max_age else _UNSAID,
        credentials=message.allow_credentials.value,
        # "If not specified, default to true".
        forward_unmatched=bool(wrapped(message, "forward_not_matching_preflights", 1)),
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for each in text.split(",") if (part := each.strip()))
