"""A route's status as Gateway API wants it on the object (RouteParentStatus). Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec import UNSET, Struct, UnsetType

from meshd.model.status import Condition, ParentReference, ParentStatus

CONTROLLER = "meshd.io/control"
"""controllerName: whose entries are ours (GatewayController's syntax: domain/path)."""
MAX_PARENTS = 32
"""Entries that status.parents has room for, those of all controllers together."""
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


class WrittenParent(Struct, frozen=True, rename="camel"):
    """An entry of status.parents."""

    parent_ref: WrittenReference
    controller_name: str
    conditions: tuple[WrittenCondition, ...] = ()


class _Metadata(Struct, frozen=True, rename="camel"):
    resource_version: str
    generation: int = 0


class _Status(Struct, frozen=True):
    parents: tuple[msgspec.Raw, ...] | None = None


class _Route(Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


class _Owner(Struct, frozen=True, rename="camel"):
    controller_name: str = ""


_route = msgspec.json.Decoder(_Route)
_owner = msgspec.json.Decoder(_Owner)
_parent = msgspec.json.Decoder(WrittenParent)
_encoder = msgspec.json.Encoder()


def patch(text: bytes, parents: tuple[ParentStatus, ...], generation: int, now: datetime) -> bytes | None:
    """The merge patch (RFC 7396) that writes ``parents`` to the route ``text``; None: they are there already.

    ``generation``: the metadata.generation that they are about. Other controllers' entries stay as they are,
    and the patch names the version that it was made from: the server refuses it (409) if another has written
    meanwhile. A condition whose status is as it was keeps its time. Raises msgspec.MsgspecError.
    """
    route = _route.decode(text)
    given = route.status.parents or ()
    others = [raw for raw in given if _owner.decode(raw).controller_name != CONTROLLER]
    ours = tuple(_parent.decode(raw) for raw in given if _owner.decode(raw).controller_name == CONTROLLER)
    held = {parent.parent_ref: parent for parent in ours}
    room = max(0, MAX_PARENTS - len(others))
    new = tuple(_written(each, held, generation, now) for each in parents)[:room]
    if new == ours:
        return None
    return _encoder.encode(
        {
            "metadata": {"resourceVersion": route.metadata.resource_version},
            "status": {"parents": [*others, *new]},
        }
    )


def _written(
    parent: ParentStatus, held: dict[WrittenReference, WrittenParent], generation: int, now: datetime
) -> WrittenParent:
    ref = _reference(parent.ref)
    last = held.get(ref)
    before = {each.type: each for each in last.conditions} if last else {}
    conditions = tuple(_condition(each, before.get(each.type), generation, now) for each in parent.conditions)
    return WrittenParent(ref, CONTROLLER, conditions)


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
    same = before is not None and before.status == status
    return WrittenCondition(
        type=condition.type,
        status=status,
        reason=condition.reason,
        message=condition.message[:MAX_MESSAGE],
        last_transition_time=before.last_transition_time
        if same and before is not None
        else now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        observed_generation=generation,
    )
