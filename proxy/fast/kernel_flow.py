"""What the kernel knows of one client's connection: what it was told, and what it says of itself."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from meshd.datapath.flows.arming import Connection
from meshd.datapath.flows.arming import Upstream as Entry
from meshd.datapath.flows.table import Carried
from meshd.model.listeners import HttpOptions
from proxy.fast.path import FastPath
from proxy.routing.listener_rules import ListenerRules

GRACE_SECONDS = 0.02
"""After a flow is disarmed no program still acts on what it was; programs take microseconds."""
_MASK = 0xFFFF_FFFF


class Turn(enum.Enum):
    """Whose the client's next request is."""

    __hash__ = object.__hash__  # as those of exchange_state

    PROXY = "proxy"
    """The proxy's: no carried request is under way, and none will be before the next arming."""
    KERNEL = "kernel"
    """The kernel's, if it can: the flow is armed."""
    ENDING = "ending"
    """The proxy's, as soon as what the kernel carries, or has just begun to, is at its end: disarmed."""
    CLOSED = "closed"


class Stage(enum.Enum):
    """How far the request has come that the kernel carried last."""

    __hash__ = object.__hash__

    DONE = "done"
    """It is whole and answered, or the proxy has adopted it; or there is none."""
    UNANSWERED = "unanswered"
    UNFINISHED = "unfinished"
    """Answered, but its server waits for the rest of its body."""


class KernelFlow:
    """The proxy's side of the flow's record: whose turn it is, and which carried requests are the proxy's."""

    __slots__ = (
        "_adopted",
        "_done",
        "_entered",
        "_path",
        "_spilled",
        "disarmed_at",
        "key",
        "rules",
        "turn",
    )

    def __init__(self, path: FastPath, key: bytes) -> None:
        """``key``: of the ``flows`` map."""
        self._path = path
        self.key = key
        self.turn = Turn.PROXY
        self.rules: ListenerRules
        """That it was armed by last."""
        self.disarmed_at = 0.0
        """By the loop's clock; when an armed flow was disarmed last."""
        self._adopted = 0
        """Requests that the kernel carried and the proxy adopted, mod 2**32."""
        self._spilled = 0
        """Of those: whose answer the kernel had begun."""
        self._done = 0
        """Requests that the kernel had carried when its turn last ended."""
        self._entered = False
        """There is an entry in the ``armed`` map, if only one that lets the kernel do nothing."""

    @property
    def armed(self) -> bool:
        """Whether the kernel may be carrying a request, or begin to."""
        return self.turn is Turn.KERNEL or self.turn is Turn.ENDING

    # -- what it is told -----------------------------------------------------------------------------

    def arm(
        self,
        rules: ListenerRules,
        consumed: int,
        written: int,
        options: HttpOptions,
        caller: bytes,
        entries: Sequence[Entry],
    ) -> None:
        """The kernel's turn. Raises OSError.

        ``consumed`` of the client's bytes, ``written`` to it. ``caller``: for x-forwarded-for; empty: none.
        """
        table = self._path.table
        flags = 0
        if options.request_id:
            flags |= table.flags["ARMED_REQUEST_ID"]
        if options.forwarded_proto:
            flags |= table.flags["ARMED_FORWARDED_PROTO"]
        line = b"x-forwarded-for: %b\r\n" % caller if caller else b""
        table.arm(
            self.key,
            table.codec.pack(rules.fingerprint, consumed, written, self._adopted, flags, line, entries),
        )
        self._entered = True
        self.rules = rules
        self.turn = Turn.KERNEL

    def disarm(self, now: float) -> None:
        """Let the kernel carry nothing more. What it carries goes on."""
        if self.turn is Turn.KERNEL:
            self.turn = Turn.ENDING
            self.disarmed_at = now
            self._path.table.disarm(self.key, self._adopted)
        elif self.turn is Turn.PROXY:
            self._forget()

    def take_turn(self, carried: Carried) -> bool:
        """The proxy's turn: nothing is under way. Whether the kernel has carried anything in its own."""
        if self.turn is Turn.ENDING:
            self._forget()
        self.turn = Turn.PROXY
        used = carried.requests != self._done
        self._done = carried.requests
        return used

    def adopt(self, carried: Carried) -> bool:
        """The proxy's turn, and the carried request its own to answer and to count.

        False: the client has closed, and the kernel has counted the request.
        """
        self._adopted = self._adopted + 1 & _MASK
        # Where an agent's new maps have no entry, the client is still there.
        if not self._path.table.disarm(self.key, self._adopted) and self.carried() is None:
            return False
        self.turn = Turn.PROXY
        self._done = carried.requests
        self._spilled += self.is_begun(carried)
        return True

    def close(self, now: float) -> None:
        """The proxy's end of the connection is closed.

        While the client's is not, and the kernel carries a request, it has that to count.
        """
        armed = self.armed
        self.disarm(now)
        self.turn = Turn.CLOSED
        if not armed or self.carried() is None:
            self._forget()

    def _forget(self) -> None:
        if self._entered:
            self._entered = False
            self._path.table.forget(self.key)

    # -- what it says --------------------------------------------------------------------------------

    def carried(self) -> Carried | None:
        """None: the client has closed."""
        return self._path.flows.carried(self.key)

    def is_request_whole(self) -> bool:
        """Whether the last carried request's body has come to its end."""
        carried = self.carried()
        return carried is not None and carried.request_left == 0

    def stage(self, carried: Carried) -> Stage:
        """Of the last carried request."""
        if (carried.requests - carried.responses - self._adopted) & _MASK:
            return Stage.UNANSWERED
        if carried.request_left and self.is_used(carried):
            return Stage.UNFINISHED
        return Stage.DONE

    def is_used(self, carried: Carried) -> bool:
        """Whether the kernel has carried anything in its turn."""
        return carried.requests != self._done

    def is_begun(self, carried: Carried) -> bool:
        """Whether the client has the first byte of an answer, and not yet the last."""
        return (carried.begun - carried.responses - self._spilled) & _MASK != 0

    def sent(self, carried: Carried) -> bytes:
        """All that has gone out of the last request, as the client sent it; empty: it is not kept."""
        return self._path.kept.read(self.key, carried.kept) if carried.kept else b""

    def connection(self, key: bytes) -> Connection | None:
        """An upstream connection; None: the kernel has forgotten it."""
        return self._path.table.connection(key)

    def status(self, key: bytes) -> int:
        """Of the last answer on a connection whose head the kernel read; 0: it has forgotten it."""
        connection = self.connection(key)
        return 0 if connection is None else connection.status
