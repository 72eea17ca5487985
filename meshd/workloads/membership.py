"""Who is in the mesh: what labels and annotations say."""

from __future__ import annotations

import enum
from collections.abc import Mapping

MESH_KEY = "meshd.io/mesh"
"""Label of a pod or its namespace: ``enabled`` or ``disabled``. As an annotation it can only disable."""
ENABLED = "enabled"
DISABLED = "disabled"


class Enrol(enum.Enum):
    """Who is enrolled where nothing is said of a pod."""

    LABELLED = "labelled"
    """Nobody: pods and namespaces are enabled by label."""
    ALL = "all"
    """Everybody."""


def left_out_by(
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    namespace_annotations: Mapping[str, str],
    enrol: Enrol,
) -> str:
    """Why a pod is not in the mesh; empty: it is. Who says no, of pod and namespace, is heard first.

    Of the labels the pod's own comes before its namespace's. Another value than the two says nothing, as no
    label does.
    """
    for place, said in (("pod", annotations), ("namespace", namespace_annotations)):
        if said.get(MESH_KEY) == DISABLED:
            return f"annotation {MESH_KEY}: {DISABLED} of the {place}"
    for place, said in (("pod", labels), ("namespace", namespace_labels)):
        value = said.get(MESH_KEY)
        if value == ENABLED:
            return ""
        if value == DISABLED:
            return f"label {MESH_KEY}: {DISABLED} of the {place}"
    return "" if enrol is Enrol.ALL else f"neither pod nor namespace has the label {MESH_KEY}: {ENABLED}"
