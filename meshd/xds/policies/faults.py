"""Fault and its xDS counterpart, the fault filter's config of a route."""

from __future__ import annotations

from envoy.extensions.filters.common.fault.v3 import fault_pb2 as delay_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2

from meshd.model.request_policies import Fault
from meshd.xds import shares, string_matches
from meshd.xds.packing import duration, number, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only


def write(model: Fault) -> fault_pb2.HTTPFault:
    """The faults. Raises ValueError for a fault of the request's own choice that is also fixed."""
    message = fault_pb2.HTTPFault(headers=string_matches.headers(model.headers))
    if model.by_header:
        if model.delay or model.abort:
            raise ValueError("a fault is fixed, or the request's to choose")
        if model.delay_share:
            message.delay.header_delay.SetInParent()
        if model.abort_share:
            message.abort.header_abort.SetInParent()
    else:
        if model.delay:
            message.delay.fixed_delay.CopyFrom(duration(model.delay))
        if model.abort:
            message.abort.http_status = model.abort
    if message.HasField("delay"):
        message.delay.percentage.CopyFrom(shares.fraction(model.delay_share))
    if message.HasField("abort"):
        message.abort.percentage.CopyFrom(shares.fraction(model.abort_share))
    if model.max_active:
        message.max_active_faults.CopyFrom(number(model.max_active))
    return message


def read(message: fault_pb2.HTTPFault, name: str, where: str) -> Fault:
    """The reverse of ``write``. Raises UnsupportedError."""
    only(message, {"delay", "abort", "headers", "max_active_faults"}, name, where)
    delay, delay_by_header = _delay(message.delay, name, f"{where}.delay")
    abort, abort_by_header = _abort(message.abort, name, f"{where}.abort")
    if (delay_by_header and abort) or (delay and abort_by_header):
        raise UnsupportedError(name, where, "delay and abort must both be fixed, or both the request's")
    return Fault(
        delay=delay,
        delay_share=shares.read(message.delay.percentage),
        abort=abort,
        abort_share=shares.read(message.abort.percentage),
        headers=tuple(
            string_matches.read_header(each, name, f"{where}.headers[{i}]")
            for i, each in enumerate(message.headers)
        ),
        by_header=delay_by_header or abort_by_header,
        max_active=wrapped(message, "max_active_faults", 0),
    )


def _delay(message: delay_pb2.FaultDelay, name: str, where: str) -> tuple[float, bool]:
    """The delay, and whether it is the request's to choose."""
    only(message, {"fixed_delay", "header_delay", "percentage"}, name, where)
    return seconds(message, "fixed_delay", 0.0), message.HasField("header_delay")


def _abort(message: fault_pb2.FaultAbort, name: str, where: str) -> tuple[int, bool]:
    """The status, and whether it is the request's to choose."""
    only(message, {"http_status", "header_abort", "percentage"}, name, where)
    if message.HasField("http_status") and not 200 <= message.http_status <= 599:
        raise UnsupportedError(name, f"{where}.http_status", "must be from 200 to 599")
    return int(message.http_status), message.HasField("header_abort")
