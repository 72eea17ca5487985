"""The status of a route or policy as Gateway API wants it on the object (RouteStatus, PolicyStatus). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from meshd.model.status import ROUTE_KINDS, Condition, ParentReference, ParentStatus

CONTROLLER = "meshd.io/control"
"""controllerName: whose entries are ours (GatewayController's syntax: domain/path)."""
MAX_PARENTS, MAX_ANCESTORS = 32, 16
"""Entries that status.parents and status.ancestors have room for, those of all controllers together."""
MAX_MESSAGE = 32768


class WrittenCondition(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A condition (apimachinery meta/v1)."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int = 0


class WrittenReference(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A parentRef."""

    name: str
    group: str | UnsetType = UNSET
    kind: str = ""
    namespace: str = ""
    section_name: str = ""
    port: int = 0


class WrittenEntry(Struct, frozen=True, rename="camel", omit_defaults=True):
    """An entry of a route's status.parents or of a policy's status.ancestors, by which of the two it has."""

    controller_name: str
    parent_ref: WrittenReference | UnsetType = UNSET
    ancestor_ref: WrittenReference | UnsetType = UNSET
    conditions: tuple[WrittenCondition, ...] = ()


class _Metadata(Struct, frozen=True, rename="camel"):
    resource_version: str


class _Status(Struct, frozen=True):
    parents: tuple[msgspec.Raw, ...] | None = None
    ancestors: tuple[msgspec.Raw, ...] | None = None


class _Object(Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


class _Owner(Struct, frozen=True, rename="camel"):
    controller_name: str = ""


_object = msgspec.json.Decoder(_Object)
_owner = msgspec.json.Decoder(_Owner)
_entry = msgspec.json.Decoder(WrittenEntry)
_encoder = msgspec.json.Encoder()


def patch(
    kind: str, text: bytes, parents: tuple[ParentStatus, ...], generation: int, now: datetime
) -> bytes | None:
    """The merge patch (RFC 7396) that writes ``parents`` to an object of a kind; None: they are there.

    ``text``: the object. ``generation``: the metadata.generation that they are about. Other controllers'
    entries stay as they are, and the patch names the version that it was made from: the server refuses it
    (409) if another has written meanwhile. A condition whose status is as it was keeps its time. Raises
    msgspec.MsgspecError.
    """
    of_route = kind in ROUTE_KINDS
    found = _object.decode(text)
    given = (found.status.parents if of_route else found.status.ancestors) or ()
    others = [raw for raw in given if _owner.decode(raw).controller_name != CONTROLLER]
    ours = tuple(_entry.decode(raw) for raw in given if _owner.decode(raw).controller_name == CONTROLLER)
    held = {each.parent_ref or each.ancestor_ref: each for each in ours}
    room = max(0, (MAX_PARENTS if of_route else MAX_ANCESTORS) - len(others))
    new = tuple(_written(of_route, each, held, generation, now) for each in parents)[:room]
    if new == ours:
        return None
    return _encoder.encode(
        {
            "metadata": {"resourceVersion": found.metadata.resource_version},
            "status": {"parents" if of_route else "ancestors": [*others, *new]},
        }
    )


def _written(
    of_route: bool,
    parent: ParentStatus,
    held: Mapping[WrittenReference | UnsetType, WrittenEntry],
    generation: int,
    now: datetime,
) -> WrittenEntry:
    ref = _reference(parent.ref)
    last = held.get(ref)
    before = {each.type: each for each in last.conditions} if last else {}
    conditions = (_condition(each, before.get(each.type), generation, now) for each in parent.conditions)
    return WrittenEntry(
        controller_name=CONTROLLER,
        parent_ref=ref if of_route else UNSET,
        ancestor_ref=UNSET if of_route else ref,
        conditions=tuple(conditions),
    )


def _reference(ref: ParentReference) -> WrittenReference:
    # The empty group is the core group, and says something; of the others empty is absent.
    return WrittenReference(
        name=ref.name,
        group=ref.group,
        kind=ref.kind,
        namespace=ref.namespace,
        section_name=ref.section_name,
        port=ref.port,
    )


def _condition(
    condition: Condition, before: WrittenCondition | None, generation: int, now: datetime
) -> WrittenCondition:
    status = "True" if condition.status else "False"
    if before is not None and before.status == status:
        since = before.last_transition_time
    else:
        since = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return WrittenCondition(
        type=condition.type,
        status=status,
        reason=condition.reason,
        message=condition.message[:MAX_MESSAGE],
        last_transition_time=since,
        observed_generation=generation,
    )
