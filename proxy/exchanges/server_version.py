"""Which version of HTTP a cluster's servers are spoken to in."""

from __future__ import annotations

from meshd.model.clusters import Cluster, HttpVersion


def speaks_http2(cluster: Cluster, client_does: bool) -> bool:
    """Whether they get a request in HTTP/2; ``client_does``: whether it came so."""
    if cluster.http_version is HttpVersion.SAME:
        return client_does
    return cluster.http_version is HttpVersion.HTTP2
