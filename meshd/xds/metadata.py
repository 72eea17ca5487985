"""What xDS has no field for: meshd's own facts, in a resource's ``metadata.filter_metadata["io.meshd"]``.

Envoy and others leave that alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from envoy.config.core.v3 import base_pb2
from google.protobuf import struct_pb2

from meshd.xds.unsupported import UnsupportedError

METADATA = "io.meshd"

POLICIES = "policies"
"""Of routes and clusters: those that shaped it."""
Facts = Mapping[str, str | bool | float | Sequence[str] | Mapping[str, str]]
_Fields = Mapping[str, struct_pb2.Value]


def write(facts: Facts) -> base_pb2.Metadata | None:
    """The metadata that holds the facts; None where there are none."""
    if not facts:
        return None
    struct = struct_pb2.Struct()
    struct.update(facts)
    return base_pb2.Metadata(filter_metadata={METADATA: struct})


def own_fields(metadata: base_pb2.Metadata) -> dict[str, struct_pb2.Value]:
    """meshd's own part of a resource's metadata. Other owners' is none of our business."""
    return dict(metadata.filter_metadata[METADATA].fields) if METADATA in metadata.filter_metadata else {}


def flag(fields: _Fields, name: str, default: bool, resource: str, where: str) -> bool:
    """A fact that is true or false. Raises UnsupportedError."""
    if name not in fields:
        return default
    if fields[name].WhichOneof("kind") != "bool_value":
        raise UnsupportedError(resource, f"{where}.{name}", "must be true or false")
    return fields[name].bool_value


def text(fields: _Fields, name: str, default: str, resource: str, where: str) -> str:
    """A fact that is a string. Raises UnsupportedError."""
    if name not in fields:
        return default
    if fields[name].WhichOneof("kind") != "string_value":
        raise UnsupportedError(resource, f"{where}.{name}", "must be a string")
    return fields[name].string_value


def count(fields: _Fields, name: str, default: int, most: int, resource: str, where: str) -> int:
    """A fact that is a whole number up to ``most``. Raises UnsupportedError."""
    if name not in fields:
        return default
    value = fields[name].number_value
    if fields[name].WhichOneof("kind") != "number_value" or not value.is_integer() or not 0 <= value <= most:
        raise UnsupportedError(resource, f"{where}.{name}", f"must be a whole number from 0 to {most}")
    return int(value)


def seconds(fields: _Fields, name: str, resource: str, where: str) -> float:
    """A fact that is a time; 0 where it is not there. Raises UnsupportedError."""
    if name not in fields:
        return 0.0
    value = fields[name].number_value
    if fields[name].WhichOneof("kind") != "number_value" or not 0 <= value < math.inf:
        raise UnsupportedError(resource, f"{where}.{name}", "must be a number of seconds")
    return value


def texts(fields: _Fields, name: str, resource: str, where: str) -> tuple[str, ...]:
    """A fact that is a list of strings; none where it is not there. Raises UnsupportedError."""
    if name not in fields:
        return ()
    values = fields[name].list_value.values
    if fields[name].WhichOneof("kind") != "list_value" or any(
        value.WhichOneof("kind") != "string_value" for value in values
    ):
        raise UnsupportedError(resource, f"{where}.{name}", "must be a list of strings")
    return tuple(value.string_value for value in values)


def only(fields: _Fields, known: set[str], resource: str, where: str) -> None:
    """Refuse facts that are not known. Raises UnsupportedError."""
    for name in fields:
        if name not in known:
            raise UnsupportedError(resource, f"{where}.filter_metadata[{METADATA}].{name}", "not supported")
