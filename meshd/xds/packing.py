"""Messages inside an Any, and messages' durations and wrapped numbers, as Python values."""

from __future__ import annotations

from google.protobuf import any_pb2, duration_pb2, wrappers_pb2
from google.protobuf.message import DecodeError, Message

from meshd.xds.unsupported import UnsupportedError


def pack(message: Message) -> any_pb2.Any:
    """A message as an Any; the same bytes for the same content."""
    packed = any_pb2.Any()
    packed.Pack(message, deterministic=True)
    return packed


def unpack(packed: any_pb2.Any, into: Message, resource: str, where: str) -> None:
    """Unpack an Any that must hold the message's type. Raises UnsupportedError."""
    if packed.TypeName() != into.DESCRIPTOR.full_name:
        raise UnsupportedError(resource, where, f"holds {packed.type_url or 'nothing'}")
    try:
        packed.Unpack(into)
    except DecodeError as error:
        raise UnsupportedError(resource, where, f"cannot be decoded: {error}") from None


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a Duration, to the nanosecond."""
    nanos = round(seconds * 1e9)
    return duration_pb2.Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def seconds(message: Message, field: str, default: float) -> float:
    """A Duration field in seconds, or the default where it is not set."""
    if not message.HasField(field):
        return default
    value = getattr(message, field)
    return float((value.seconds * 10**9 + value.nanos) / 10**9)


def number(value: int) -> wrappers_pb2.UInt32Value:
    """A number that says that it is set, 0 too."""
    return wrappers_pb2.UInt32Value(value=value)


def wrapped(message: Message, field: str, default: int) -> int:
    """A field of one of the wrapped integer types, or the default where it is not set."""
    return int(getattr(message, field).value) if message.HasField(field) else default
