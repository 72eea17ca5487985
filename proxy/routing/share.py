"""A cluster's share of a route's requests."""

from __future__ import annotations

from meshd.model.routes import Route, WeightedCluster
from proxy.requests.header_edit import NO_EDIT, Edit


class Share:
    """One weighted cluster with its edits and the route's."""

    __slots__ = ("cluster", "request_edit", "response_edit", "weight")

    def __init__(self, route: Route, weighted: WeightedCluster) -> None:
        self.cluster = weighted.name
        self.weight = weighted.weight
        # The more specific edit comes first, so that the less specific one has the last word
        # (Envoy without most_specific_header_mutations_wins).
        self.request_edit = Edit((weighted.request_headers, route.request_headers)) or NO_EDIT
        self.response_edit = Edit((weighted.response_headers, route.response_headers)) or NO_EDIT
