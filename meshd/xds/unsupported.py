"""What a resource asks for and we do not do: found field by field, refused by name."""

from __future__ import annotations

from collections.abc import Set

from google.protobuf.message import Message


class UnsupportedError(Exception):
    """A resource asks for something that this data plane does not do, or contradicts itself."""

    def __init__(self, resource: str, field: str, why: str) -> None:
        super().__init__(f"{resource}: {field}: {why}")
        self.resource = resource
        self.field = field
        self.why = why


def only(message: Message, handled: Set[str], resource: str, where: str = "") -> None:
    """Refuse a message that has any field set beside those handled. Raises UnsupportedError.

    Fields are found by what is on the wire (ListFields), so that a field this code has never heard of is
    refused too instead of being ignored.
    """
    for descriptor, _ in message.ListFields():
        if descriptor.name not in handled:
            path = f"{where}.{descriptor.name}" if where else descriptor.name
            raise UnsupportedError(resource, path, "not supported")
