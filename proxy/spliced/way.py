"""One direction of a spliced connection, as far as the proxy knows it."""

from __future__ import annotations

from collections.abc import Callable

from meshd.datapath.flows.frame_position import Position
from meshd.datapath.flows.splices import Passed, Redirected
from proxy.spliced.frames import Frames
from proxy.tcp.end import End

_MASK = 0xFFFF_FFFF


class Way:
    """Takes what an end's peer sends (end.Sink), and has the other end send it on."""

    __slots__ = ("_counted", "_redirected", "_take", "_to", "frames", "read", "sent")

    def __init__(self, position: Position, to: End, take: Callable[[bytes], None]) -> None:
        """``take``: passes bytes on, by ``send``."""
        self._to = to
        self._take = take
        self._redirected = 0
        self._counted = position.opened
        self.frames = Frames(position)
        """All that is known to have come on this way, whoever passed it on."""
        self.read = 0
        """Bytes that came to the proxy, in all; likewise ``sent`` by it."""
        self.sent = 0

    # -- Sink ----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Sink: bytes have come."""
        self.read += len(data)
        self._take(data)

    def write_eof(self) -> None:
        """Sink: there are no more."""
        self._to.write_eof()

    def hold(self) -> None:
        """Sink: their sender's peer does not keep up."""
        self._to.hold()

    def release(self) -> None:
        """Sink: it does again."""
        self._to.release()

    # -- for its owner -------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send on."""
        self.sent += len(data)
        self._to.write(data)

    def catch_up(self, redirected: Redirected) -> None:
        """Pass over what the kernel has redirected, of which the proxy sees nothing else."""
        if redirected.size != self._redirected:
            self._redirected = redirected.size
            self.frames = Frames(redirected.position)

    def passed(self, more: int = 0) -> Passed:
        """What the kernel is to know. ``more``: bytes that are sent next."""
        return Passed(self.read, self.sent + more, self.frames.position())

    @property
    def total(self) -> int:
        """Bytes that came on it, whoever passed them on."""
        return self.read + self._redirected

    def newly_opened(self) -> int:
        """Streams that have been opened since this was last asked."""
        opened = self.frames.position().opened
        new, self._counted = opened - self._counted & _MASK, opened
        return new
