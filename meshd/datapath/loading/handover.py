"""An upgrade while workers of the earlier version serve, who cannot use the new one's maps.

The new version's maps are filled beside the earlier ones, and its workers started; then, in one moment in
which nobody accepts, its programs come into force, and the connections that the earlier ones captured are
carried over.
"""

from __future__ import annotations

import contextlib
import enum
import struct
from collections.abc import Iterable
from pathlib import Path

from meshd.datapath.heartbeat import Heartbeat
from meshd.datapath.kernel import bpf
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading import attachment, carry
from meshd.datapath.loading.layout import Layout
from meshd.datapath.loading.map_names import CARRIED_MAPS
from meshd.datapath.loading.pins import Pins

_PLACE = struct.Struct("=I")


class State(enum.Enum):
    """How far it is."""

    WAITING = "waiting"
    """The earlier programs are in force."""
    SWITCHED = "switched"
    """The new ones are; earlier workers end what they have."""
    FINISHED = "finished"
    """Nothing is left of the earlier version."""


class Handover:
    """From one layout to the next, at one cgroup."""

    def __init__(self, old: Layout, new: Layout, pins: Pins, at: Path, number: int) -> None:
        """Fill the new maps, but for the connections that are open. Raises OSError."""
        self._old, self._new, self._pins = old, new, pins
        self._at, self._number = at, number
        self.state = State.WAITING
        carry.carry_over(old, new, pins, [name for name in CARRIED_MAPS if name != "flows"])

    def stand_in(self, place: int) -> None:
        """Let the earlier programs believe for a while that somebody accepts. Raises OSError.

        ``place``: of a worker, whose beats they do not see, or who has the same one.
        """
        with contextlib.closing(Heartbeat(self._heartbeat_fd())) as heartbeat:
            heartbeat.beat(place)

    def quiet(self, places: Iterable[int]) -> bool:
        """Whether the earlier workers at these places have stopped to accept. Raises OSError."""
        with contextlib.closing(Map(self._heartbeat_fd())) as beats:
            return not any(any(beats.get(_PLACE.pack(place)) or b"") for place in places)

    def switch(self) -> None:
        """Put the new programs in force. Raises DatapathError, OSError."""
        attachment.attach(self._pins, self._new, self._at, self._number)
        carry.carry_over(self._old, self._new, self._pins, ["flows"])
        carry.carry_counters(self._old, self._new, self._pins)
        self.state = State.SWITCHED

    def finish(self) -> None:
        """Leave nothing of the earlier version. Raises OSError."""
        carry.retire(self._old, self._new, self._pins)
        attachment.remove_obsolete(self._pins, self._new)
        self.state = State.FINISHED

    def _heartbeat_fd(self) -> int:
        return bpf.open_pinned(str(self._pins.map(self._old, "heartbeat")))


def may_share(old: Layout, new: Layout) -> bool:
    """Whether workers of both versions can use the same maps."""
    return old.map_digest("flows") == new.map_digest("flows")
