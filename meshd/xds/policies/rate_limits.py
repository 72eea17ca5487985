"""RateLimit and its xDS counterpart, the local rate limit filter's config of a virtual host or route.

A client's own bucket is a descriptor of its address whose value is left open: Envoy makes a bucket for each
value that comes (docs, "Local rate limit", "Using rate limit descriptors").
"""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.type.v3 import token_bucket_pb2
from google.protobuf import wrappers_pb2

from meshd.model.request_policies import MILLION, RateLimit, TokenBucket
from meshd.xds import shares
from meshd.xds.packing import duration, number, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_ADDRESS = "remote_address"
"""The key of the descriptor that the action of that name makes."""
MAX_CLIENTS = 4096
"""Buckets of clients that are kept, the least recently used going first. Envoy's default is 20."""
_TOO_MANY_REQUESTS = 429


def write(model: RateLimit, prefix: str) -> local_rate_limit_pb2.LocalRateLimit:
    """The limits. ``prefix`` names them in Envoy's statistics. Raises ValueError where there is none."""
    default = model.all or model.each_client
    if default is None:
        raise ValueError("a rate limit without a bucket")
    message = local_rate_limit_pb2.LocalRateLimit(
        stat_prefix=prefix,
        # Envoy wants one; where there is none for all, no request takes from it.
        token_bucket=_bucket(default),
        filter_enabled=shares.runtime_fraction(MILLION),
        filter_enforced=shares.runtime_fraction(MILLION),
        always_consume_default_token_bucket=wrappers_pb2.BoolValue(value=model.all is not None),
    )
    if model.each_client is not None:
        message.descriptors.add(
            entries=[ratelimit_pb2.RateLimitDescriptor.Entry(key=_ADDRESS)],
            token_bucket=_bucket(model.each_client),
        )
        message.rate_limits.add(
            actions=[
                route_components_pb2.RateLimit.Action(
                    remote_address=route_components_pb2.RateLimit.Action.RemoteAddress()
                )
            ]
        )
        message.max_dynamic_descriptors.CopyFrom(number(MAX_CLIENTS))
    return message


def _bucket(model: TokenBucket) -> token_bucket_pb2.TokenBucket:
    return token_bucket_pb2.TokenBucket(
        max_tokens=model.burst, tokens_per_fill=number(model.tokens), fill_interval=duration(model.interval)
    )


def read(message: local_rate_limit_pb2.LocalRateLimit, name: str, where: str) -> RateLimit:
    """The reverse of ``write``. Raises UnsupportedError."""
    only(
        message,
        {"stat_prefix", "status", "token_bucket", "filter_enabled", "filter_enforced", "descriptors",
         "rate_limits", "max_dynamic_descriptors", "always_consume_default_token_bucket"},
        name,
        where,
    )  # fmt: skip
    if message.HasField("status") and message.status.code != _TOO_MANY_REQUESTS:
        raise UnsupportedError(name, f"{where}.status", f"only {_TOO_MANY_REQUESTS}")
    for field in ("filter_enabled", "filter_enforced"):
        # Not set is 0 % "for safety": a limit that limits nothing.
        if shares.read_runtime(getattr(message, field), name, f"{where}.{field}") != MILLION:
            raise UnsupportedError(name, f"{where}.{field}", "only 100 %")
    each_client = _each_client(message, name, where)
    all_of_them: TokenBucket | None = _read_bucket(message.token_bucket, name, f"{where}.token_bucket")
    always = message.always_consume_default_token_bucket
    only_in_need = message.HasField("always_consume_default_token_bucket") and not always.value
    if only_in_need and each_client is not None:
        all_of_them = None  # Every request has an address, so none takes from it.
    return RateLimit(all=all_of_them, each_client=each_client)


def _each_client(message: local_rate_limit_pb2.LocalRateLimit, name: str, where: str) -> TokenBucket | None:
    if not message.descriptors and not message.rate_limits:
        return None
    if len(message.descriptors) != 1:
        raise UnsupportedError(name, f"{where}.descriptors", "only one, of the client's address")
    descriptor, here = message.descriptors[0], f"{where}.descriptors[0]"
    only(descriptor, {"entries", "token_bucket"}, name, here)
    if [(entry.key, entry.value) for entry in descriptor.entries] != [(_ADDRESS, "")]:
        raise UnsupportedError(name, f"{here}.entries", f"only {_ADDRESS} with no value: each client's own")
    here = f"{where}.rate_limits"
    if len(message.rate_limits) != 1 or len(message.rate_limits[0].actions) != 1:
        raise UnsupportedError(name, here, f"only one action, {_ADDRESS}")
    only(message.rate_limits[0], {"actions"}, name, f"{here}[0]")
    only(message.rate_limits[0].actions[0], {_ADDRESS}, name, f"{here}[0].actions[0]")
    return _read_bucket(descriptor.token_bucket, name, f"{where}.descriptors[0].token_bucket")


def _read_bucket(message: token_bucket_pb2.TokenBucket, name: str, where: str) -> TokenBucket:
    if message.max_tokens < 1:
        raise UnsupportedError(name, f"{where}.max_tokens", "must be above 0")
    interval = seconds(message, "fill_interval", 0.0)
    if interval <= 0:
        raise UnsupportedError(name, f"{where}.fill_interval", "must be above 0")
    # TokenBucket.tokens_per_fill: "Defaults to 1".
    return TokenBucket(
        tokens=wrapped(message, "tokens_per_fill", 1), interval=interval, burst=int(message.max_tokens)
    )
