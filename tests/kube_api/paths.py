"""What the path of a request to an API server names."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Objects of a kind, or one of them, or a part of it."""

    group: str
    """Empty: that of Pods and Services."""
    namespace: str
    """Empty: in none, or in all."""
    plural: str
    name: str = ""
    subresource: str = ""


def place(path: str) -> Place:
    """Of ``/api/v1/…`` or ``/apis/GROUP/VERSION/…``. Raises ValueError."""
    root, *parts = path.strip("/").split("/")
    group = parts.pop(0) if root == "apis" and parts else ""
    _, *parts = parts or [""]
    if parts[:1] == ["namespaces"] and len(parts) > 2 and parts[2] != "status":
        _, namespace, *parts = parts
    else:
        namespace = ""
    if root not in ("api", "apis") or not 1 <= len(parts) <= 3:
        raise ValueError(f"{path} names nothing")
    return Place(group, namespace, *parts)
