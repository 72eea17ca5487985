"""The kinds of object that are followed, and the texts that the API server sends of them."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw, Struct

PAGE = 500
"""Objects of a list that are sent at a time, as kubectl asks for them."""


class Resource(NamedTuple):
    """A kind, by where it is found."""

    kind: str
    api_version: str
    """``v1``, ``group/version``."""
    plural: str
    field_selector: str = ""
    """Which of them; empty: all. ``spec.nodeName=NAME``."""

    def path_in(self, namespace: str) -> str:
        """Of those in a namespace; empty: of all."""
        root = "/apis" if "/" in self.api_version else "/api"
        place = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}/{self.api_version}{place}/{self.plural}"


class Meta(Struct, frozen=True, rename="camel"):
    """metadata of an object, as far as it identifies a version of it."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    uid: str = ""


class Head(Struct, frozen=True, rename="camel"):
    """What all objects have."""

    metadata: Meta = Meta()


class ListMeta(Struct, frozen=True, rename={"resource_version": "resourceVersion", "continue_": "continue"}):
    """metadata of a list."""

    resource_version: str = ""
    continue_: str = ""


class Page(Struct, frozen=True):
    """A list, or a piece of one. Its objects are as they came, without kind and apiVersion."""

    metadata: ListMeta = ListMeta()
    items: tuple[Raw, ...] | None = None


class WatchEvent(Struct, frozen=True):
    """A line of a watch (apimachinery meta/v1 WatchEvent)."""

    type: str
    object: Raw


class Status(Struct, frozen=True):
    """What the API server says of a failure (apimachinery meta/v1 Status)."""

    message: str = ""
    reason: str = ""
    code: int = 0


class Kept(NamedTuple):
    """One version of an object."""

    resource_version: str
    uid: str
    text: bytes
    """JSON, as the server sent it."""
