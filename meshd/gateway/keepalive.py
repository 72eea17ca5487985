"""What policies say of HTTP/2 connections."""

from __future__ import annotations

from meshd.kube import policy_fields
from meshd.kube.duration import seconds
from meshd.model.http2 import Http2Options, KeepAlive


def http2_options(said: policy_fields.KeepAlive | None) -> Http2Options:
    """The options of a port's clients or of a cluster's servers."""
    if said is None:
        return Http2Options()
    return Http2Options(keepalive=KeepAlive(interval=seconds(said.interval), timeout=seconds(said.timeout)))
