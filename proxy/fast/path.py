"""A worker's part in the fast path: the kernel's maps, and a look at what the kernel does with them."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from meshd.datapath.flows.arming import ArmingTable
from meshd.datapath.flows.kept_requests import KeptRequests
from meshd.datapath.flows.table import FlowTable
from meshd.datapath.kernel.bell import Bell
from meshd.model.request_policies import MILLION
from proxy.in_force import ListenerState
from proxy.routing.listener_rules import NO_RULES, ListenerRules, listener_rules
from proxy.runtime import Runtime
from proxy.transports.epoll_set import EpollSet
from proxy.upstream.http1 import Upstream

_MAX_LOOKS = 512
"""Flows that one sweep asks the kernel for: about 2 ms. All have their turn."""
_MAX_PASSED = 8 * _MAX_LOOKS
"""Flows that one sweep considers."""


class Watched(Protocol):
    """A flow that the kernel may be carrying requests of."""

    def is_over(self) -> bool:
        """Whether there is nothing to look after any more."""

    def is_due(self, now: float) -> bool:
        """Whether it is time for a look."""

    def look(self, now: float) -> None:
        """Ask the kernel and act on what it says."""


class FastPath:
    """One for each worker. Without maps (no agent has come yet) it does nothing."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._enabled = False
        self._sample = 0
        self._queue: deque[Watched] = deque()
        self._unheard: dict[bytes, Upstream] = {}
        """Connections to other nodes that the proxy does not read from, by their keys."""
        self._epoll_set = EpollSet(runtime.loop)
        self._bell: Bell
        self.flows: FlowTable
        self.table: ArmingTable
        self.kept: KeptRequests
        runtime.timed.add(self)

    def configure(
        self,
        flows: FlowTable,
        table: ArmingTable,
        kept: KeptRequests,
        bell: Bell,
        enabled: bool,
        sample: int,
    ) -> None:
        """Take an agent's maps and wishes, as in meshd.model.wire.Configure. They stay the caller's.

        ``bell``: hangs there for this worker; ``rung`` is to be called when its fd is readable.
        """
        self.flows, self.table, self.kept, self._bell = flows, table, kept, bell
        self._enabled = enabled
        self._sample = sample
        for upstream in tuple(self._unheard.values()):
            self.take_from_kernel(upstream)  # its flow may know another bell

    def leave_to_kernel(self, upstream: Upstream) -> None:
        """Do not read from a connection whose answers the kernel may carry, where it would wake us for each.

        That is so where the server is on another node: the kernel takes answers from the proxy's own socket.
        """
        if upstream.kind == self.table.kinds["UPSTREAM_REMOTE"] and upstream.key not in self._unheard:
            self._unheard[upstream.key] = upstream
            upstream.leave_to_kernel(self._epoll_set)

    def take_from_kernel(self, upstream: Upstream) -> None:
        """Read from it again. For any connection."""
        if self._unheard.pop(upstream.key, None) is not None:
            upstream.take_from_kernel()

    def listen_if_missed(self, upstream: Upstream) -> None:
        """For the sweep. The bell may have had no room, or the connection have ended before it was hung."""
        if upstream.key not in self._unheard:
            return
        table = self.table
        connection = table.connection(upstream.key)
        if (
            connection is None
            or connection.place == table.places["PLACE_GONE"]
            or connection.response >= table.responses["RESPONSE_UPCALLED"]
        ):
            self.take_from_kernel(upstream)

    def rung(self) -> None:
        """Something has come on connections that we do not read from that is not for their clients."""
        for key in self._bell.take():
            if (upstream := self._unheard.get(key)) is not None:
                self.take_from_kernel(upstream)

    def is_on(self) -> bool:
        """Whether flows may be armed."""
        return self._enabled and not self._runtime.draining

    def rules(self, state: ListenerState) -> ListenerRules | None:
        """A listener's rules under the config in force; None: the kernel is to carry nothing of it."""
        all_logged = self._runtime.access_log is not None and not self._sample
        if all_logged and state.options.access_log_share == MILLION:
            return None
        rules = state.rules
        if rules is None:
            config = self._runtime.config
            rules = state.rules = listener_rules(config.snapshot, state.listener) or NO_RULES
            rules.balancers = {
                name: config.balancers[name] for name in rules.clusters.values() if name in config.balancers
            }
        return None if rules is NO_RULES else rules

    def watch(self, flow: Watched) -> None:
        """Look at a flow from now on, until it is over. For a flow that is not watched."""
        self._queue.append(flow)

    def check(self, now: float) -> None:
        """Runtime's sweep."""
        queue = self._queue
        looks = _MAX_LOOKS
        for _ in range(min(len(queue), _MAX_PASSED)):
            flow = queue.popleft()
            if flow.is_due(now):
                flow.look(now)
                looks -= 1
            if not flow.is_over():
                queue.append(flow)
            if not looks:
                break
