"""The endpoints of one cluster: which one takes the next request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from meshd.model import levels as shares
from meshd.model.cluster_policies import LeastRequest, Maglev, RandomEndpoint, RingHash, RoundRobin, SlowStart
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.levels import Address, Level
from proxy.balancing.hash_tables import MaglevTable, Ring
from proxy.balancing.levels import Drawing, Hashing, HashTable, Policy
from proxy.balancing.selection import Selection
from proxy.balancing.slow_start import Newcomers
from proxy.balancing.turns import EndpointWeight, LeastBusy, RoundRobinTurns, ScheduledTurns
from proxy.balancing.weighted_random import WeightedRandom

_NOBODY: Mapping[Address, int] = {}


class Balancer:
    """Picks among the endpoints of one cluster, and counts the requests each of them has.

    A caller that called an IPv4 address is given an IPv4 endpoint, and IPv6 alike, as kube-proxy does: a
    dual-stack pod is two endpoints here, and may listen in one family only. Where a cluster has but the
    other family, that serves both.

    Which endpoints take requests is meshd.model.levels' to say: healthy ones, by priority; in panic all.
    """

    __slots__ = (
        "_active",
        "_families",
        "_in_session",
        "_levels",
        "_new",
        "_usable",
        "_weights",
        "cluster",
        "endpoints",
        "hashes",
    )

    def __init__(
        self, cluster: Cluster, endpoints: EndpointSet, previous: Balancer | None = None, now: float = 0.0
    ) -> None:
        """``previous``: the cluster's balancer before a change; the counts of active requests carry over.

        ``now``: seconds of a monotonic clock, for slow start. Endpoints that come with the first balancer of
        a cluster are not new: nothing is known of their age, and all would be new alike.
        """
        self.cluster = cluster
        self.endpoints = endpoints
        self.hashes = isinstance(cluster.balancing, RingHash | Maglev)
        """Whether ``Selection.hash`` matters."""
        self._active: dict[Address, int] = {} if previous is None else previous._active
        ipv4, ipv6 = (self._in_family(version) for version in (False, True))
        self._levels = (ipv4 or ipv6, ipv6 or ipv4)
        self._weights: list[Mapping[Address, int] | None] = [None, None]
        self._in_session: dict[Address, Endpoint] | None = None
        self._usable: set[Address] | None = None
        self._new = self._newcomers(previous, now)
        self._compile()

    def _in_family(self, ipv6: bool) -> tuple[Level, ...]:
        return shares.levels(
            (each for each in self.endpoints.endpoints if (":" in each.address) == ipv6),
            self.cluster.panic_percent,
            self.endpoints.overprovisioning_percent,
        )

    def _newcomers(self, previous: Balancer | None, now: float) -> Newcomers | None:
        config = slow_start(self.cluster)
        if config is None or config.window <= 0 or previous is None:
            return None
        before = {
            (each.address, each.port)
            for each in previous.endpoints.endpoints
            if each.health is Health.HEALTHY
        }
        known = {} if previous._new is None else previous._new.still_new(now)
        since = {}
        for each in self.endpoints.endpoints:
            address = each.address, each.port
            if each.health is Health.HEALTHY and (address in known or address not in before):
                since[address] = known.get(address, now)
        return Newcomers(config, since) if since else None

    def _compile(self) -> None:
        ipv4, ipv6 = self._levels
        first = self._scheme(ipv4)
        self._families = (first, first if ipv6 is ipv4 else self._scheme(ipv6))

    def _scheme(self, levels: Sequence[Level]) -> Drawing | Hashing | None:
        if not levels:
            return None
        return Hashing(levels, self._table) if self.hashes else Drawing(levels, self._policy)

    def _table(self, endpoints: tuple[Endpoint, ...]) -> HashTable:
        policy = self.cluster.balancing
        if isinstance(policy, RingHash):
            return Ring(endpoints, policy.min_size, policy.max_size)
        assert isinstance(policy, Maglev)
        return MaglevTable(endpoints, policy.table_size)

    def is_of(self, cluster: Cluster, endpoints: EndpointSet | None) -> bool:
        """Whether it is made of the very same."""
        return self.cluster is cluster and self.endpoints is endpoints

    def in_steps(self) -> Iterator[None]:
        """Make now what the first request would have to wait for, if that takes longer than some 2 ms, in
        steps of less than that.
        """
        policy = self.cluster.balancing
        if isinstance(policy, Maglev):
            for scheme in dict.fromkeys(self._families):
                if isinstance(scheme, Hashing):
                    yield from scheme.made_by(lambda at: MaglevTable.in_steps(at, policy.table_size))

    def _policy(self, endpoints: tuple[Endpoint, ...]) -> Policy:
        alike = self._new is None and len({endpoint.weight for endpoint in endpoints}) == 1
        match self.cluster.balancing:
            case RoundRobin():
                return RoundRobinTurns(endpoints) if alike else ScheduledTurns(endpoints, self._own_weight())
            case LeastRequest(choices=choices):
                if alike:
                    return LeastBusy(endpoints, self._active, choices)
                return ScheduledTurns(endpoints, self._weight_by_load)
            case RandomEndpoint():
                return WeightedRandom(endpoints)
            case RingHash() | Maglev():
                raise AssertionError("it has tables")

    def _own_weight(self) -> EndpointWeight:
        new = self._new
        if new is None:
            return lambda endpoint, now: endpoint.weight
        return lambda endpoint, now: endpoint.weight * new.factor(endpoint, now)

    def _weight_by_load(self, endpoint: Endpoint, now: float) -> float:
        """LeastRequestLoadBalancer::hostWeight, with active_request_bias 1."""
        weight = endpoint.weight / (self.active(endpoint) + 1)
        return weight if self._new is None else weight * self._new.factor(endpoint, now)

    def _age(self, now: float) -> None:
        """Forget those that are new no more, once none is."""
        if self._new is not None and now >= self._new.until:
            self._new = None
            self._compile()

    def pick(self, selection: Selection) -> Endpoint | None:
        """The endpoint for a new request; None where none takes requests."""
        if self._new is not None:
            self._age(selection.now)
        if selection.wanted is not None and selection.wanted not in selection.excluded:
            named = self.in_session(selection.wanted)
            if named is not None:
                return named
        scheme = self._families[selection.ipv6]
        return None if scheme is None else scheme.pick(selection)

    def in_session(self, address: Address) -> Endpoint | None:
        """The endpoint at an address, if it takes the requests of its sessions: draining ones do, too."""
        return self._sessions().get(address)

    def _sessions(self) -> Mapping[Address, Endpoint]:
        if self._in_session is None:
            self._in_session = {
                (each.address, each.port): each
                for each in self.endpoints.endpoints
                if each.health is not Health.UNHEALTHY
            }
        return self._in_session

    def weights(self, ipv6: bool = False, now: float = 0.0) -> Mapping[Address, int]:
        """The endpoints that ``pick`` draws from, and by which weights one that only draws may do so for it.

        Empty while an endpoint is new: then weights change with every moment.
        """
        self._age(now)
        if self._new is not None:
            return _NOBODY
        found = self._weights[ipv6]
        if found is None:
            found = self._weights[ipv6] = shares.weights(self._levels[ipv6])
        return found

    def is_usable(self, address: Address, sessions: bool) -> bool:
        """Whether new requests may go to an address. ``sessions``: those of its sessions, too."""
        if self._usable is None:
            levels = (*self._levels[0], *self._levels[1])
            self._usable = {(each.address, each.port) for level in levels for each in level.endpoints}
        return address in self._usable or (sessions and address in self._sessions())

    def started(self, endpoint: Endpoint) -> None:
        """A request went out to ``endpoint``."""
        key = (endpoint.address, endpoint.port)
        self._active[key] = self._active.get(key, 0) + 1

    def finished(self, endpoint: Endpoint) -> None:
        """A request that ``started`` counted has ended, well or not."""
        key = (endpoint.address, endpoint.port)
        left = self._active.get(key, 0) - 1
        if left > 0:
            self._active[key] = left
        else:
            self._active.pop(key, None)

    def active(self, endpoint: Endpoint) -> int:
        """How many requests ``endpoint`` has at the moment."""
        return self._active.get((endpoint.address, endpoint.port), 0)


def slow_start(cluster: Cluster) -> SlowStart | None:
    """How a cluster's new endpoints begin; None: like the others."""
    policy = cluster.balancing
    return policy.slow_start if isinstance(policy, RoundRobin | LeastRequest) else None
