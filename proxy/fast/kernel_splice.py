"""A spliced connection as the kernel knows it: what it was told, and what it has redirected."""

from __future__ import annotations

from meshd.datapath.flows.splices import Passed, Redirected
from proxy.fast.path import FastPath
from proxy.tcp.end import End


class KernelSplice:
    """The proxy's side of one connection's entries, in the maps that were in use when it began."""

    __slots__ = ("_flow", "_key", "_path", "_table")

    def __init__(self, path: FastPath, flow: bytes) -> None:
        """``flow``: the key of the ``flows`` map."""
        self._path = path
        self._flow = flow
        self._key = b""
        self._table = path.splices
        self._table.hold()

    def begin(self, upstream: End, up: Passed, down: Passed) -> bool:
        """The kernel may redirect what comes from now on. ``upstream``: on which nothing has been sent.

        False: it cannot.
        """
        try:
            self._key = self._table.begin(self._flow, *upstream.addresses(), up, down)
        except OSError:
            return False
        return True

    def tell(self, up: Passed, down: Passed, leaving: bool = False) -> bool:
        """Say how far the proxy has got. ``leaving``: nothing more is to be redirected; a program that runs
        just now may still (kernel_flow.GRACE_SECONDS). False: it does not know, and what it redirects no more
        it does not begin to again.
        """
        try:
            self._table.tell(self._key, self._flow, up, down, leaving)
        except OSError:
            return False
        return True

    def redirected(self) -> tuple[Redirected, Redirected] | None:
        """From the client, and from the server; None: nothing is known any more. Raises OSError."""
        return self._table.redirected(self._key)

    def is_server_elsewhere(self) -> bool:
        """Whether the server, which has sent something, is on another node. Raises OSError."""
        table = self._path.table
        connection = table.connection(self._key)
        return connection is None or connection.place == table.places["PLACE_ELSEWHERE"]

    def close(self) -> None:
        """The connection is about to end."""
        self._table.close()
