"""Spliced HTTP/2 connections that the kernel carries, on real sockets: each byte, in order, and the way back."""

from __future__ import annotations

import contextlib

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.routes import Forward, Route, WeightedCluster
from tests.proxy.worker.fast_path_bed import FastPathBed
from tests.support.http2_client import Http2Client
from tests.support.http2_server import serving

CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)
PLAIN = Route(name="plain", action=Forward(clusters=(WeightedCluster(name="web"),)))
TIMED = Route(name="timed", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=9.0))


def redirected(bed: FastPathBed) -> tuple[int, int]:
    """Bytes that the kernel has redirected on the one connection there is: from the client, and to it."""
    datapath = bed.mesh.datapath
    unpack = datapath.layout.codec("spliced", "up.bytes", "down.bytes").unpack
    with contextlib.closing(datapath.open_map("spliced")) as spliced:
        ((_, value),) = spliced.items()
    up, down = unpack(value)
    return up, down


def test_all_but_the_first_bytes_are_redirected(bed: FastPathBed) -> None:
    web = bed.serve(serving)
    bed.configure([web], (PLAIN,), cluster=CLUSTER, spliced=True)
    with Http2Client(bed.connect()) as client:
        for _ in range(50):
            assert client.get().body == b"hello"
        up, down = redirected(bed)
        print(up, down, bed.agent.stats())
        assert 0
