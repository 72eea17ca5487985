"""Shares of requests, which the model has in parts per million, as FractionalPercent (type.v3)."""

from __future__ import annotations

from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2

from meshd.model.request_policies import MILLION
from meshd.xds.unsupported import only

_Fraction = percent_pb2.FractionalPercent
_PARTS = {_Fraction.HUNDRED: 100, _Fraction.TEN_THOUSAND: 10_000, _Fraction.MILLION: MILLION}


def fraction(share: int) -> percent_pb2.FractionalPercent:
    """A share, in parts per million.

    By the coarsest denominator: it is the unit, too, in which a request may ask for a share of faults
    (x-envoy-fault-*-percentage), and that is percent where the policy is in whole percents.
    """
    denominator = next(each for each, parts in _PARTS.items() if share % (MILLION // parts) == 0)
    return _Fraction(numerator=share * _PARTS[denominator] // MILLION, denominator=denominator)


def runtime_fraction(share: int) -> base_pb2.RuntimeFractionalPercent:
    """A share that Envoy's runtime could change, and does not: it has no key."""
    return base_pb2.RuntimeFractionalPercent(default_value=fraction(share))


def read(message: percent_pb2.FractionalPercent) -> int:
    """The reverse of ``fraction``. More than all is all."""
    return min(int(message.numerator) * (MILLION // _PARTS[message.denominator]), MILLION)


def read_runtime(message: base_pb2.RuntimeFractionalPercent, resource: str, where: str) -> int:
    """The reverse of ``runtime_fraction``. There is no runtime here, so the default holds whatever the key.

    Raises UnsupportedError.
    """
    only(message, {"default_value", "runtime_key"}, resource, where)
    return read(message.default_value)
