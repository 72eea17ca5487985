"""The idle connections to servers that the kernel may use for one client."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.datapath.flows.arming import Upstream as Entry
from proxy.fast.arming_plan import MAX_CONNECTIONS, Own, plan
from proxy.fast.path import FastPath
from proxy.runtime import Runtime
from proxy.upstream.http1 import Borrower, Upstream
from proxy.upstream.pool import Pool


class OwnConnections:
    """In the order of their use, the last one last; one for each endpoint. They belong to one flow."""

    __slots__ = ("_all", "_flow", "_path")

    def __init__(self, path: FastPath, flow: Borrower) -> None:
        self._path = path
        self._flow = flow
        self._all: list[Upstream] = []

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Upstream]:
        """As they are now: they may be released meanwhile."""
        return iter(tuple(self._all))

    def __contains__(self, upstream: Upstream) -> bool:
        return upstream in self._all

    def with_key(self, key: bytes) -> Upstream | None:
        """The one that the kernel knows by ``key``; None: it is not among them any more."""
        return next((each for each in self._all if each.key == key), None)

    def take(self, pool: Pool) -> Upstream | None:
        """The one to an endpoint, for a request that the proxy sends; None: there is none that is usable."""
        for upstream in self._all:
            if upstream.pool is pool:
                self.forget(upstream)
                if self._is_sound(upstream):
                    return upstream
                upstream.abort()
                return None
        return None

    def add(self, upstream: Upstream) -> None:
        """Keep one more; the one that was used least recently goes if there are too many."""
        for other in self:
            if other.pool is upstream.pool:
                self.release(other)
        upstream.reused = True
        upstream.exchange = None
        upstream.flow = self._flow
        self._all.append(upstream)
        if len(self._all) > MAX_CONNECTIONS:
            self.release(self._all[0])

    def forget(self, upstream: Upstream) -> None:
        """It is not the flow's any more."""
        if upstream in self._all:
            self._all.remove(upstream)
        upstream.flow = None
        self._path.take_from_kernel(upstream)

    def leave_to_kernel(self) -> None:
        """The kernel is about to use them."""
        for upstream in self._all:
            self._path.leave_to_kernel(upstream)

    def take_from_kernel(self) -> None:
        """It is not, after all."""
        for upstream in self._all:
            self._path.take_from_kernel(upstream)

    def listen_to_missed(self) -> None:
        """For the sweep: FastPath.listen_if_missed."""
        for upstream in self:
            self._path.listen_if_missed(upstream)

    def abort(self, upstream: Upstream) -> None:
        """Forget and close it."""
        self.forget(upstream)
        upstream.abort()

    def release(self, upstream: Upstream) -> None:
        """Give it to its pool, if it is fit for another client."""
        self.forget(upstream)
        if self._is_sound(upstream):
            upstream.pool.release(upstream)
        else:
            upstream.abort()

    def release_all(self) -> None:
        """Give all to their pools."""
        for upstream in self:
            self.release(upstream)

    def release_draining(self) -> None:
        """Give up those to endpoints that take no more requests."""
        for upstream in self:
            if upstream.pool.draining:
                self.release(upstream)

    def entries(self, runtime: Runtime, ipv6: bool) -> list[Entry]:
        """What the kernel is to be told of them; empty: none is of use to it.

        ``ipv6``: whether the client called an IPv6 address.
        """
        table = self._path.table
        for upstream in self:
            if not upstream.is_known(table):
                runtime.counters.add("fast_path_unusable_connections_total")
                self.release(upstream)
        balancers = runtime.config.balancers
        own = [Own(upstream.pool.cluster.name, upstream.pool.address) for upstream in self._all]
        weights = {
            each.cluster: balancers[each.cluster].weights(ipv6, runtime.now)
            for each in own
            if each.cluster in balancers
        }
        shares, missing = plan(own, weights, MAX_CONNECTIONS - len(own))
        entries = [
            Entry(
                upstream.key,
                upstream.pool.cluster_id,
                share,
                upstream.written,
                upstream.consumed(),
                upstream.kind,
            )
            for upstream, share in zip(self._all, shares, strict=True)
            if share
        ]
        if entries:
            clusters = {upstream.pool.cluster.name: upstream.pool.cluster_id for upstream in self._all}
            kind, none = table.kinds["UPSTREAM_MISSING"], table.codec.no_connection
            entries += [Entry(none, clusters[each.cluster], each.weight, 0, 0, kind) for each in missing]
        return entries

    def _is_sound(self, upstream: Upstream) -> bool:
        """Whether no byte is on its way that could pass for an answer to the next request.

        Where the kernel sees the server's socket it knows of bytes that have not come yet.
        """
        if not upstream.is_open() or upstream.has_ended():
            return False
        if upstream.kind <= 0:
            return True
        connection = self._path.table.connection(upstream.key)
        return connection is not None and connection.place != self._path.table.places["PLACE_GONE"]
