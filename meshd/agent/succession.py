"""What an agent does with a worker that presents itself. Pure."""

from __future__ import annotations

import enum

from meshd.build import Build
from meshd.model.wire import Hello


class Part(enum.Enum):
    """A worker's part from now on."""

    FILLS = "fills"
    """It is one of the node's workers."""
    SUCCEEDED = "succeeded"
    """Others succeed it; it follows the config until it has ended."""
    STRANGE = "strange"
    """Others succeed it, and it is only told to end: it understands nothing else."""


def part_of(hello: Hello, build: Build, has_slot: bool, has_vacancy: bool) -> Part:
    """``has_slot``: it fills a slot already; ``has_vacancy``: there is one that it may fill."""
    if hello.build == build.code and not hello.draining and (has_slot or has_vacancy):
        return Part.FILLS
    return Part.SUCCEEDED if hello.wire == build.wire else Part.STRANGE
