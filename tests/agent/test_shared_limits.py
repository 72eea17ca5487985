from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshd.agent.shared_limits import SharedLimits
from meshd.limit_page import MAX_ROWS, LimitPage, Resource
from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster
from meshd.model.snapshot import Snapshot


@pytest.fixture
def limits() -> Iterator[SharedLimits]:
    made = SharedLimits(2)
    yield made
    made.close()


def _snapshot(*limited: str) -> Snapshot:
    clusters = {name: Cluster(name=name, limits=Limits(requests=1)) for name in limited}
    return Snapshot(1, clusters={**clusters, "free": Cluster(name="free")})


def test_clusters_with_limits_have_rows_which_are_used_again(limits: SharedLimits) -> None:
    assert not limits.follow(_snapshot())
    assert limits.follow(_snapshot("a", "b"))
    first = limits.message(0).rows
    assert sorted(first) == ["a", "b"]
    assert len(set(first.values())) == 2
    assert not limits.follow(_snapshot("a", "b"))
    assert limits.follow(_snapshot("b", "c"))
    assert limits.message(0).rows == {"b": first["b"], "c": first["a"]}


def test_what_a_dead_worker_had_out_is_out_no_more(limits: SharedLimits) -> None:
    limits.follow(_snapshot("a"))
    row = limits.message(0).rows["a"]
    (fd,) = limits.fds()
    page = LimitPage(fd, 2)
    page.set(row, Resource.REQUESTS, 0, 3)
    page.set(row, Resource.REQUESTS, 1, 4)
    assert limits.loads() == {"a": {"connections": 0, "pending": 0, "requests": 7, "retries": 0}}
    limits.worker_ended(1)
    assert page.total(row, Resource.REQUESTS) == 3
    page.close()


def test_there_is_room_for_so_many(limits: SharedLimits, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"c{number:05}" for number in range(MAX_ROWS + 1)]
    assert limits.follow(_snapshot(*names))
    assert len(limits.message(0).rows) == MAX_ROWS
    assert "too many clusters with limits" in caplog.text
    caplog.clear()
    assert not limits.follow(_snapshot(*names))
    assert limits.follow(_snapshot(*names[1:]))
    assert names[-1] in limits.message(0).rows
    assert caplog.text == ""
