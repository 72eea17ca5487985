"""What routes and policies are told of themselves: conditions, and their status as the API has it. Pure.

Types and reasons are the Gateway API's (apis/v1/shared_types.go, RouteConditionType, RouteConditionReason).
"""

from __future__ import annotations

from collections.abc import Sequence

from meshd.gateway.attachment import Attachment
from meshd.gateway.references import Unresolved
from meshd.gateway.written_status import CONTROLLER
from meshd.model.status import ROUTE_KINDS, Condition, ObjectStatus, ParentReference, ParentStatus


def parent_statuses(
    attachments: Sequence[Attachment],
    unresolved: Sequence[Unresolved],
    refused: str = "",
    message: str = "",
) -> tuple[ParentStatus, ...]:
    """The status of a route for each of its parents.

    ``unresolved``: what is wrong with its backendRefs. ``refused``: the reason why it is not in force at all,
    told in ``message``; empty: it is, wherever it is attached.
    """
    resolved = _resolved(unresolved)
    return tuple(
        ParentStatus(
            parent=each.parent, ref=each.ref, conditions=(_accepted(each, refused, message), resolved)
        )
        for each in attachments
    )


def _accepted(attachment: Attachment, refused: str, message: str) -> Condition:
    if attachment.reason:
        return Condition(type="Accepted", status=False, reason=attachment.reason, message=attachment.message)
    if refused:
        return Condition(type="Accepted", status=False, reason=refused, message=message)
    return Condition(type="Accepted", status=True, reason="Accepted")


def _resolved(unresolved: Sequence[Unresolved]) -> Condition:
    if not unresolved:
        return Condition(type="ResolvedRefs", status=True, reason="ResolvedRefs")
    message = "; ".join(each.message for each in unresolved)
    return Condition(type="ResolvedRefs", status=False, reason=unresolved[0].reason, message=message)


def object_status(told: ObjectStatus) -> dict[str, object]:
    """The field ``status`` of a route or policy, but for lastTransitionTime, which is known to who writes it.

    What a route has for its parents (RouteStatus) a policy has for its targets (PolicyStatus, GEP-713).
    """
    several, one = ("parents", "parentRef") if told.kind in ROUTE_KINDS else ("ancestors", "ancestorRef")
    return {
        several: [
            {
                one: _reference(parent.ref),
                "controllerName": CONTROLLER,
                "conditions": [
                    {
                        "type": condition.type,
                        "status": "True" if condition.status else "False",
                        "reason": condition.reason,
                        "message": condition.message,
                        "observedGeneration": told.generation,
                    }
                    for condition in parent.conditions
                ],
            }
            for parent in told.parents
        ]
    }


def _reference(ref: ParentReference) -> dict[str, object]:
    given = {"namespace": ref.namespace, "sectionName": ref.section_name, "port": ref.port}
    fields = {name: value for name, value in given.items() if value}
    return {"group": ref.group, "kind": ref.kind, "name": ref.name, **fields}
