"""Http2ProtocolOptions: of a listener's clients' connections, and of a cluster's servers'.

What the model has of them is written where it is not the default, so that Envoy keeps its own. Extended
CONNECT is what our own proxy does unasked; so is ending the stream alone on which an invalid message comes.
"""

from __future__ import annotations

from envoy.config.core.v3 import protocol_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf.message import Message

from meshd.model.http2 import DEFAULT_JITTER_PERCENT, Http2Options, KeepAlive
from meshd.xds.packing import duration, number, seconds, wrapped
from meshd.xds.unsupported import UnsupportedError, only

_WINDOWS = (65_535, 2**31 - 1)
_MIN_SECONDS = 0.001
_NUMBERS = {
    "max_streams": ("max_concurrent_streams", (1, 2**31 - 1)),
    "stream_window": ("initial_stream_window_size", _WINDOWS),
    "connection_window": ("initial_connection_window_size", _WINDOWS),
}
"""The model's fields, with the protos' and what these may say (protoc-gen-validate's rules of them)."""
_KEEPALIVE, _IDLE = "connection_keepalive", "connection_idle_interval"
_STREAM_ERRORS = "override_stream_error_on_invalid_http_message"
_DEFAULT = Http2Options()


def write(model: Http2Options) -> protocol_pb2.Http2ProtocolOptions:
    """The options of a listener or a cluster."""
    message = protocol_pb2.Http2ProtocolOptions(allow_connect=True)
    for attribute, (field, _) in _NUMBERS.items():
        value = getattr(model, attribute)
        if value != getattr(_DEFAULT, attribute):
            getattr(message, field).CopyFrom(number(value))
    if model.keepalive is not None:
        message.connection_keepalive.CopyFrom(_keepalive(model.keepalive))
    return message


def _keepalive(model: KeepAlive) -> protocol_pb2.KeepaliveSettings:
    message = protocol_pb2.KeepaliveSettings(
        timeout=duration(model.timeout),
        interval_jitter=percent_pb2.Percent(value=model.jitter_percent),
    )
    if model.interval:
        message.interval.CopyFrom(duration(model.interval))
    if model.idle_interval:
        message.connection_idle_interval.CopyFrom(duration(model.idle_interval))
    return message


def read(message: protocol_pb2.Http2ProtocolOptions, name: str, where: str, of_clients: bool) -> Http2Options:
    """The reverse of ``write``. ``of_clients``: they are a listener's. Raises UnsupportedError."""
    handled = {"allow_connect", _KEEPALIVE, _STREAM_ERRORS, *(field for field, _ in _NUMBERS.values())}
    only(message, handled, name, where)
    if message.HasField(_STREAM_ERRORS) and not getattr(message, _STREAM_ERRORS).value:
        raise UnsupportedError(name, f"{where}.{_STREAM_ERRORS}", "only true: the connection goes on")
    values: dict[str, int] = {}
    for attribute, (field, (least, most)) in _NUMBERS.items():
        values[attribute] = wrapped(message, field, getattr(_DEFAULT, attribute))
        if not least <= values[attribute] <= most:
            raise UnsupportedError(name, f"{where}.{field}", f"must be from {least} to {most}")
    keepalive = None
    if message.HasField(_KEEPALIVE):
        keepalive = _read_keepalive(message.connection_keepalive, name, f"{where}.{_KEEPALIVE}")
        if keepalive.idle_interval and of_clients:
            raise UnsupportedError(
                name, f"{where}.{_KEEPALIVE}.{_IDLE}", "only of a cluster: clients begin the streams"
            )
    return Http2Options(keepalive=keepalive, **values)


def _read_keepalive(message: protocol_pb2.KeepaliveSettings, name: str, where: str) -> KeepAlive:
    only(message, {"interval", "timeout", "interval_jitter", _IDLE}, name, where)
    jitter = message.interval_jitter.value if message.HasField("interval_jitter") else DEFAULT_JITTER_PERCENT
    if not 0 <= jitter <= 100:
        raise UnsupportedError(name, f"{where}.interval_jitter", "must be from 0 to 100")
    if not message.HasField("timeout"):
        raise UnsupportedError(name, f"{where}.timeout", "must be set")
    return KeepAlive(
        interval=_positive(message, "interval", name, where),
        timeout=_positive(message, "timeout", name, where),
        jitter_percent=jitter,
        idle_interval=_positive(message, _IDLE, name, where),
    )


def _positive(message: Message, field: str, name: str, where: str) -> float:
    """Seconds, 0 where it is not set."""
    value = seconds(message, field, 0.0)
    if message.HasField(field) and value < _MIN_SECONDS:
        raise UnsupportedError(name, f"{where}.{field}", "must be 1 ms or more")
    return value
