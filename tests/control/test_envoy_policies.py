"""A real Envoy takes every policy that we can write."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from meshd.model.clusters import Cluster, EndpointSet
from meshd.model.routes import Route
from meshd.model.snapshot import Snapshot
from tests.control.envoy_client import bootstrap, until_in_force
from tests.support import envoy
from tests.support.ads_thread import AdsThread
from tests.xds import everything
from tests.xds.strategies import resources


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path: those of Unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as path:
        yield Path(path)


@pytest.mark.parametrize("delta", [False, True], ids=["sotw", "delta"])
def test_every_policy(directory: Path, delta: bool) -> None:
    bare, all_of_it = everything.snapshot(()), everything.snapshot()
    with AdsThread(directory / "ads.sock") as ads:
        ads.publish(bare)
        with envoy.running(bootstrap(ads.socket_path, delta), directory) as peer:
            until_in_force(peer, ads, bare)
            ads.publish(all_of_it)
            until_in_force(peer, ads, all_of_it)
            routes = peer.admin("/config_dump?resource=dynamic_route_configs")
            assert all(f'"path_separated_prefix": "/{name}"' in routes for name in everything.ROUTES)


def _numbered(
    example: int, clusters: list[Cluster], sets: list[EndpointSet]
) -> tuple[list[Cluster], list[EndpointSet]]:
    """Both under their own names. No cluster that probes has endpoints: they would have to answer first."""
    of_clusters = {f"c{example}-{i}": cluster for i, cluster in enumerate(clusters)}
    of_sets = {f"e{example}-{i}": each for i, each in enumerate(sets)}
    return (
        [msgspec.structs.replace(c, name=n) for n, c in of_clusters.items()]
        + [Cluster(name=n) for n in of_sets],
        [EndpointSet(name=n) for n in of_clusters]
        + [msgspec.structs.replace(e, name=n) for n, e in of_sets.items()],
    )


def test_what_nobody_thought_of(directory: Path) -> None:
    numbers = itertools.count()
    with AdsThread(directory / "ads.sock") as ads:
        ads.publish(everything.snapshot())
        with envoy.running(bootstrap(ads.socket_path, False), directory) as peer:

            @settings(max_examples=5, deadline=None, phases=[Phase.generate])
            @given(
                st.lists(resources.clusters, min_size=5, max_size=5),
                st.lists(resources.endpoint_sets, min_size=5, max_size=5),
                st.lists(resources.routes(), min_size=5, max_size=5),
            )
            def taken(clusters: list[Cluster], sets: list[EndpointSet], routes: list[Route]) -> None:
                clusters, sets = _numbered(next(numbers), clusters, sets)
                plain = everything.snapshot(tuple(routes))
                snapshot = Snapshot(
                    1,
                    plain.listeners,
                    plain.route_configs,
                    {each.name: each for each in clusters},
                    {each.name: each for each in sets},
                )
                ads.publish(snapshot)
                until_in_force(peer, ads, snapshot)

            taken()
