"""What a listener's requests are decided by, as the kernel and the proxy both name it. Pure."""

from __future__ import annotations

from meshd.datapath.rules.compilation import why_upcall
from meshd.datapath.rules.fingerprint import cluster_id, rules_fingerprint
from meshd.model.listeners import Listener
from meshd.model.routes import Forward, Route
from meshd.model.snapshot import Snapshot
from proxy.balancing.balancer import Balancer


class ListenerRules:
    """What a listener's requests are decided by, as the kernel and the proxy both name it."""

    __slots__ = ("balancers", "clusters", "fingerprint", "has_timeouts", "routes")

    def __init__(self, fingerprint: int, routes: tuple[Route, ...]) -> None:
        self.fingerprint = fingerprint
        self.routes = routes
        """The kernel knows them by their place here."""
        self.clusters: dict[int, str] = {}
        """The names of the clusters that the routes forward to, by fingerprint.cluster_id."""
        self.balancers: dict[str, Balancer] = {}
        """Theirs, by name."""
        self.has_timeouts = False
        for route in routes:
            if isinstance(route.action, Forward):
                self.has_timeouts |= route.action.timeout > 0
                for share in route.action.clusters:
                    self.clusters[cluster_id(share.name)] = share.name

    def timeout(self, route: int) -> float:
        """A route's, in seconds; 0: none."""
        action = self.routes[route].action
        return action.timeout if isinstance(action, Forward) else 0.0


def listener_rules(snapshot: Snapshot, listener: Listener) -> ListenerRules | None:
    """A listener's rules; None: the kernel carries none of its requests.

    Where the kernel has none all the same, for want of room for instance, flows are armed for nothing.
    """
    config = snapshot.route_configs.get(listener.route_config)
    if config is None or not listener.fast_path or listener.http.via or len(config.virtual_hosts) != 1:
        return None
    host = config.virtual_hosts[0]
    if host.domains != ("*",) or all(why_upcall(route, snapshot.clusters) for route in host.routes):
        return None
    return ListenerRules(rules_fingerprint(snapshot, listener), host.routes)


NO_RULES = ListenerRules(0, ())
