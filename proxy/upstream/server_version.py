"""Which version of HTTP a cluster's servers are spoken to in."""

from __future__ import annotations

from meshd.model.clusters import Cluster, HttpVersion

_SAME, _HTTP2 = HttpVersion.SAME, HttpVersion.HTTP2  # an enum's attributes are slow in Python 3.11


def speaks_http2(cluster: Cluster, client_does: bool) -> bool:
    """Whether they get a request in HTTP/2; ``client_does``: whether it came so."""
    version = cluster.http_version
    return client_does if version is _SAME else version is _HTTP2
