"""Balancing and its xDS counterparts: lb_policy with its config, and, for reading, load_balancing_policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.load_balancing_policies.common.v3 import common_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.maglev.v3 import maglev_pb2
from envoy.extensions.load_balancing_policies.random.v3 import random_pb2
from envoy.extensions.load_balancing_policies.ring_hash.v3 import ring_hash_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message

from meshd.model.cluster_policies import (
    Balancing,
    LeastRequest,
    Maglev,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    SlowStart,
)
from meshd.xds.packing import duration, number, pack, seconds, unpack, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_Cluster = cluster_pb2.Cluster
_AGGRESSION_KEY = "upstream.slow_start.aggression"
"""RuntimeDouble.runtime_key has to be set; nobody sets the runtime's value of that name."""


def write(cluster: cluster_pb2.Cluster, model: Balancing) -> None:
    """Set the policy.

    What gRPC's clients do not know is written as a list with something that they know behind it: of such a
    list everybody takes the first that he knows.
    """
    if isinstance(model, RoundRobin):
        cluster.lb_policy = _Cluster.ROUND_ROBIN
        if model.slow_start is not None:
            cluster.round_robin_lb_config.slow_start_config.CopyFrom(
                _slow_start(model.slow_start, _Cluster.SlowStartConfig())
            )
    elif isinstance(model, RingHash):
        cluster.lb_policy = _Cluster.RING_HASH
        config = cluster.ring_hash_lb_config
        config.minimum_ring_size.CopyFrom(wrappers_pb2.UInt64Value(value=model.min_size))
        config.maximum_ring_size.CopyFrom(wrappers_pb2.UInt64Value(value=model.max_size))
    elif isinstance(model, LeastRequest):
        least = least_request_pb2.LeastRequest(choice_count=number(model.choices))
        if model.slow_start is not None:
            least.slow_start_config.CopyFrom(_slow_start(model.slow_start, common_pb2.SlowStartConfig()))
        _in_order(cluster, least, round_robin_pb2.RoundRobin())
    elif isinstance(model, RandomEndpoint):
        _in_order(cluster, random_pb2.Random(), round_robin_pb2.RoundRobin())
    else:
        maglev = maglev_pb2.Maglev(table_size=wrappers_pb2.UInt64Value(value=model.table_size))
        _in_order(cluster, maglev, ring_hash_pb2.RingHash(hash_function=ring_hash_pb2.RingHash.XX_HASH))


def _in_order(cluster: cluster_pb2.Cluster, *policies: Message) -> None:
    for policy in policies:
        extension = cluster.load_balancing_policy.policies.add().typed_extension_config
        extension.name = policy.DESCRIPTOR.full_name
        extension.typed_config.CopyFrom(pack(policy))


_S = TypeVar("_S", cluster_pb2.Cluster.SlowStartConfig, common_pb2.SlowStartConfig)


def _slow_start(model: SlowStart, message: _S) -> _S:
    message.slow_start_window.CopyFrom(duration(model.window))
    message.aggression.default_value, message.aggression.runtime_key = model.aggression, _AGGRESSION_KEY
    message.min_weight_percent.value = model.min_weight_percent
    return message


def read(cluster: cluster_pb2.Cluster) -> Balancing:
    """The reverse of ``write``; load_balancing_policy takes precedence. Raises UnsupportedError."""
    name = str(cluster.name)
    if cluster.HasField("load_balancing_policy"):
        return _first_supported(cluster.load_balancing_policy, name)
    if cluster.lb_policy not in _BY_POLICY:
        policy = _Cluster.LbPolicy.Name(cluster.lb_policy)
        raise UnsupportedError(name, "lb_policy", f"{policy} is not supported")
    field, read_config = _BY_POLICY[cluster.lb_policy]
    given = cluster.WhichOneof("lb_config")
    if given is not None and given != field:
        raise UnsupportedError(name, given, "is not the config of lb_policy")
    return read_config(getattr(cluster, field) if field else any_pb2.Any(), name, field)


def _first_supported(policy: cluster_pb2.LoadBalancingPolicy, name: str) -> Balancing:
    """Of a list of policies the first whose kind is known, as the field's documentation says."""
    kinds = []
    for i, each in enumerate(policy.policies):
        config = each.typed_extension_config.typed_config
        kind = config.TypeName()
        kinds.append(kind)
        if kind in _BY_TYPE:
            message, read_config = _BY_TYPE[kind]
            where = f"load_balancing_policy.policies[{i}].typed_extension_config.typed_config"
            into = message()
            unpack(config, into, name, where)
            return read_config(into, name, where)
    reason = f"none of {', '.join(kinds)} is supported" if kinds else "no policy is given"
    raise UnsupportedError(name, "load_balancing_policy", reason)


def _read_round_robin(message: Message, name: str, where: str) -> Balancing:
    only(message, {"slow_start_config"}, name, where)
    return RoundRobin(slow_start=_read_slow_start(message, name, where))


def _read_least_request(message: Message, name: str, where: str) -> Balancing:
    only(message, {"choice_count", "slow_start_config"}, name, where)
    choices = wrapped(message, "choice_count", LeastRequest().choices)
    if choices < 2:
        raise UnsupportedError(name, f"{where}.choice_count", "must be 2 or more")
    return LeastRequest(choices=choices, slow_start=_read_slow_start(message, name, where))


def _read_random(message: Message, name: str, where: str) -> Balancing:
    only(message, set(), name, where)
    return RandomEndpoint()


def _read_ring_hash(message: Message, name: str, where: str) -> Balancing:
    assert isinstance(message, _Cluster.RingHashLbConfig | ring_hash_pb2.RingHash)
    only(message, {"minimum_ring_size", "maximum_ring_size", "hash_function"}, name, where)
    # The two enums differ: only one of them has a "default".
    hashes = (
        {_Cluster.RingHashLbConfig.XX_HASH}
        if isinstance(message, _Cluster.RingHashLbConfig)
        else {ring_hash_pb2.RingHash.DEFAULT_HASH, ring_hash_pb2.RingHash.XX_HASH}
    )
    if message.hash_function not in hashes:
        raise UnsupportedError(name, f"{where}.hash_function", "only XX_HASH")
    default = RingHash()
    least = wrapped(message, "minimum_ring_size", default.min_size)
    most = wrapped(message, "maximum_ring_size", default.max_size)
    if not 1 <= least <= most <= default.max_size:
        why = f"sizes must be from 1 to {default.max_size}, the minimum not above the maximum"
        raise UnsupportedError(name, where, why)
    return RingHash(min_size=least, max_size=most)


def _read_maglev(message: Message, name: str, where: str) -> Balancing:
    only(message, {"table_size"}, name, where)
    size = wrapped(message, "table_size", Maglev().table_size)
    if not 2 <= size <= _MAX_TABLE or any(size % i == 0 for i in range(2, int(size**0.5) + 1)):
        raise UnsupportedError(name, f"{where}.table_size", f"must be a prime up to {_MAX_TABLE}")
    return Maglev(table_size=size)


_MAX_TABLE = 5_000_011


_HasSlowStart = (
    _Cluster.RoundRobinLbConfig
    | _Cluster.LeastRequestLbConfig
    | round_robin_pb2.RoundRobin
    | least_request_pb2.LeastRequest
)


def _read_slow_start(message: Message, name: str, where: str) -> SlowStart | None:
    assert isinstance(message, _HasSlowStart)
    if not message.HasField("slow_start_config"):
        return None
    config = message.slow_start_config
    where = f"{where}.slow_start_config"
    only(config, {"slow_start_window", "aggression", "min_weight_percent"}, name, where)
    window = seconds(config, "slow_start_window", 0.0)
    default = SlowStart(window=window)
    aggression = config.aggression.default_value if config.HasField("aggression") else default.aggression
    least = config.min_weight_percent.value if config.HasField("min_weight_percent") else None
    if window <= 0:
        raise UnsupportedError(name, f"{where}.slow_start_window", "must be above 0")
    if aggression <= 0:
        raise UnsupportedError(name, f"{where}.aggression", "must be above 0")
    return SlowStart(
        window=window,
        aggression=aggression,
        min_weight_percent=default.min_weight_percent if least is None else least,
    )


_Read = Callable[[Message, str, str], Balancing]
_BY_POLICY: dict[int, tuple[str, _Read]] = {
    _Cluster.ROUND_ROBIN: ("round_robin_lb_config", _read_round_robin),
    _Cluster.LEAST_REQUEST: ("least_request_lb_config", _read_least_request),
    _Cluster.RANDOM: ("", _read_random),
    _Cluster.RING_HASH: ("ring_hash_lb_config", _read_ring_hash),
    _Cluster.MAGLEV: ("maglev_lb_config", _read_maglev),
}
"""By lb_policy: the field of its config, and what reads that."""
_BY_TYPE: dict[str, tuple[type[Message], _Read]] = {
    kind.DESCRIPTOR.full_name: (kind, read_config)
    for kind, read_config in (
        (round_robin_pb2.RoundRobin, _read_round_robin),
        (least_request_pb2.LeastRequest, _read_least_request),
        (random_pb2.Random, _read_random),
        (ring_hash_pb2.RingHash, _read_ring_hash),
        (maglev_pb2.Maglev, _read_maglev),
    )
}
