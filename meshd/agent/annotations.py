"""What a pod's annotations say of the fast path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FAST_PATH = "meshd.io/fast-path"
"""``off``: the kernel carries nothing to or from the pod."""
TCP_FAST_PATH = "meshd.io/tcp-fast-path"
"""``on``: its connections to opaque TCP services are joined, whatever these say. ``off``: none of its is, at
either end."""
_VALUES = {"on": True, "off": False}


class FastPathChoice(NamedTuple):
    """What the kernel may do by itself with a workload's sockets."""

    on: bool
    """They may be enrolled at all."""
    joins: bool | None = None
    """As Datapath.set_member's."""
    reason: str = ""
    """Why not, or what is wrong with the annotations."""


def annotated_choice(annotations: Mapping[str, str]) -> FastPathChoice:
    """What the annotations say. What is neither ``on`` nor ``off`` says nothing."""
    if annotations.get(FAST_PATH) == "off":
        return FastPathChoice(False, reason=f"annotation {FAST_PATH}")
    wrong = (
        f"annotation {name}: {value!r} is neither on nor off and is not used"
        for name in (FAST_PATH, TCP_FAST_PATH)
        if (value := annotations.get(name, "on")) not in _VALUES
    )
    return FastPathChoice(True, _VALUES.get(annotations.get(TCP_FAST_PATH, "")), "; ".join(wrong))
