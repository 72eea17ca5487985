"""What ties a route's requests to endpoints: their sessions and their hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshd.model.levels import Address
from meshd.model.request_policies import Session
from meshd.model.routes import Forward, HeaderEdit
from proxy.balancing.balancer import Balancer
from proxy.balancing.hash_keys import Hasher, Source, hasher
from proxy.balancing.sessions import session_edit, session_of
from proxy.requests.header_edit import Edit
from proxy.requests.request_head import RequestHead
from proxy.routing.share import Share


class RouteAffinity:
    """A route's, ready to be asked. False where nothing ties its requests."""

    __slots__ = ("_shares", "hasher", "session")

    def __init__(self, forward: Forward, shares: Sequence[Share]) -> None:
        """``shares``: all of the route's, those without a weight too."""
        self.hasher: Hasher | None = hasher(forward.hash_keys) if forward.hash_keys else None
        self.session: Session | None = forward.session
        self._shares = shares

    def __bool__(self) -> bool:
        return self.hasher is not None or self.session is not None

    def share_of(self, wanted: Address, drawn: str, balancers: Mapping[str, Balancer]) -> Share | None:
        """Whose the endpoint of a session is; None: of ``drawn``, the cluster that was drawn, or of none.

        A session stays with its endpoint whatever the weights say, 0 included (GEP-1619, Traffic Splitting).
        """

        def has_it(cluster: str) -> bool:
            balancer = balancers.get(cluster)
            return balancer is not None and balancer.in_session(wanted) is not None

        if has_it(drawn):
            return None
        return next((share for share in self._shares if has_it(share.cluster)), None)


class Affinity:
    """One request's."""

    __slots__ = ("_cookie", "_hash", "_hashed", "_request", "_source", "_time", "route", "wanted")

    def __init__(self, route: RouteAffinity, request: RequestHead, source: Source, time: float) -> None:
        """``time``: seconds since the epoch."""
        self.route = route
        self._request = request
        self._source = source
        self._time = time
        self._hashed = False
        self._hash: int | None = None
        self._cookie = ""
        self.wanted = None if route.session is None else session_of(route.session, request, time)
        """The endpoint that its session is with."""

    def hash(self) -> int | None:
        """For clusters that are balanced by hash; None: the request has nothing that it is hashed by.

        Where that is a cookie that it lacks, one is made, and the answer brings it.
        """
        if not self._hashed and self.route.hasher is not None:
            self._hashed = True
            found = self.route.hasher(self._request, self._source)
            if found is not None:
                self._hash, self._cookie = found
        return self._hash

    def share_in_session(self, cluster: str, balancers: Mapping[str, Balancer]) -> Share | None:
        """Whose the session's endpoint is, where that is not ``cluster``'s, which is decided; else None."""
        return None if self.wanted is None else self.route.share_of(self.wanted, cluster, balancers)

    def answer_edit(self, endpoint: Address) -> Edit:
        """What the answer of ``endpoint`` has to tell the client; False: nothing."""
        edits = []
        session = self.route.session
        if session is not None and endpoint != self.wanted:
            edits.append(session_edit(session, self._request.path, endpoint, self._time))
        if self._cookie:
            edits.append(HeaderEdit(add=(("set-cookie", self._cookie),)))
        return Edit(edits)
