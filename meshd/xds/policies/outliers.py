"""Outlier and its xDS counterpart, OutlierDetection. The latency that ejects is a fact of ours.

Where xDS has a threshold and a percentage that enforces it, here a threshold of 0 is "off": so what is off
is written as enforced in 0 %, and a percentage that is neither 0 nor 100 is refused.
"""

from __future__ import annotations

from envoy.config.cluster.v3 import outlier_detection_pb2
from google.protobuf import wrappers_pb2

from meshd.model.cluster_policies import Outlier
from meshd.xds.packing import duration, number, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_Message = outlier_detection_pb2.OutlierDetection
_STDEV_FACTOR, _CONSECUTIVE = 1900, 5
"""Of Envoy, where they are not set."""


def write(model: Outlier) -> outlier_detection_pb2.OutlierDetection:
    """The detection, all but ``latency_factor``."""
    message = _Message(
        interval=duration(model.interval),
        base_ejection_time=duration(model.ejection_time),
        # Envoy refuses one that is shorter than the first ejection.
        max_ejection_time=duration(max(model.max_ejection_time, model.ejection_time)),
        max_ejection_percent=number(model.max_ejected_percent),
        always_eject_one_host=wrappers_pb2.BoolValue(value=True),
        success_rate_minimum_hosts=number(model.success_rate_hosts),
        success_rate_request_volume=number(model.success_rate_requests),
        enforcing_consecutive_5xx=_enforcing(model.consecutive_5xx),
        enforcing_consecutive_gateway_failure=_enforcing(model.consecutive_gateway),
        enforcing_success_rate=_enforcing(model.success_rate_factor),
    )
    if model.consecutive_5xx:
        message.consecutive_5xx.CopyFrom(number(model.consecutive_5xx))
    if model.consecutive_gateway:
        message.consecutive_gateway_failure.CopyFrom(number(model.consecutive_gateway))
    if model.success_rate_factor:
        message.success_rate_stdev_factor.CopyFrom(number(model.success_rate_factor))
    return message


def _enforcing(threshold: int) -> wrappers_pb2.UInt32Value:
    return number(100 if threshold else 0)


def read(
    message: outlier_detection_pb2.OutlierDetection, latency_factor: int, name: str, where: str
) -> Outlier:
    """The reverse of ``write``. Raises UnsupportedError."""
    only(
        message,
        {"interval", "base_ejection_time", "max_ejection_time", "max_ejection_percent",
         "always_eject_one_host", "consecutive_5xx", "enforcing_consecutive_5xx",
         "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure",
         "success_rate_stdev_factor", "enforcing_success_rate", "success_rate_minimum_hosts",
         "success_rate_request_volume"},
        name,
        where,
    )  # fmt: skip
    default = Outlier()
    interval = seconds(message, "interval", default.interval)
    ejection_time = seconds(message, "base_ejection_time", default.ejection_time)
    longest = seconds(message, "max_ejection_time", max(default.max_ejection_time, ejection_time))
    percent = wrapped(message, "max_ejection_percent", default.max_ejected_percent)
    if interval <= 0:
        raise UnsupportedError(name, f"{where}.interval", "must be above 0")
    if not 0 < ejection_time <= longest:
        why = "must be above 0, and not above max_ejection_time"
        raise UnsupportedError(name, f"{where}.base_ejection_time", why)
    if percent > 100:
        raise UnsupportedError(name, f"{where}.max_ejection_percent", "must be from 0 to 100")
    if message.HasField("always_eject_one_host") and not message.always_eject_one_host.value:
        raise UnsupportedError(name, f"{where}.always_eject_one_host", "only true")

    def threshold(field: str, unset: int, enforcing: str, enforced: int) -> int:
        share = wrapped(message, enforcing, enforced)
        if share not in (0, 100):
            raise UnsupportedError(name, f"{where}.{enforcing}", "only 0 and 100")
        value = wrapped(message, field, unset)
        if share and not value:
            raise UnsupportedError(name, f"{where}.{field}", "must be above 0")
        return value if share else 0

    return Outlier(
        consecutive_5xx=threshold("consecutive_5xx", _CONSECUTIVE, "enforcing_consecutive_5xx", 100),
        consecutive_gateway=threshold(
            "consecutive_gateway_failure", _CONSECUTIVE, "enforcing_consecutive_gateway_failure", 0
        ),
        interval=interval,
        ejection_time=ejection_time,
        max_ejection_time=longest,
        max_ejected_percent=percent,
        success_rate_factor=threshold(
            "success_rate_stdev_factor", _STDEV_FACTOR, "enforcing_success_rate", 100
        ),
        success_rate_hosts=wrapped(message, "success_rate_minimum_hosts", default.success_rate_hosts),
        success_rate_requests=wrapped(message, "success_rate_request_volume", default.success_rate_requests),
        latency_factor=latency_factor,
    )
