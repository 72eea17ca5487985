"""A share of the requests is logged, whichever way they take: the kernel draws what it passes up for that."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from meshd.datapath.counts.carried_requests import CarriedRequests
from meshd.model.listeners import HttpOptions
from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import answering, get, ok, read_response

REQUESTS = 2000
PLAIN = ok(b"hello", DATE)


def upcalls(bed: FastPathBed) -> dict[str, int]:
    """Messages passed up so far, by reason."""
    datapath = bed.mesh.datapath
    opened = datapath.open_map("requests"), datapath.open_map("upcalls")
    with contextlib.closing(CarriedRequests(*opened, datapath.layout)) as counts:
        found: dict[str, int] = {}
        for (_, reason), count in counts.upcalls().items():
            found[reason] = found.get(reason, 0) + count
        return found


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (100_000, 110, 300)])
def test_the_share_is_logged(bed: FastPathBed, tmp_path: Path, share: int, least: int, most: int) -> None:
    """Six standard deviations about the mean."""
    path = tmp_path / "access.log"
    bed.configure([bed.serve(answering(PLAIN))], options=HttpOptions(access_log_share=share))
    bed.agent.configure(bed.mesh, str(path), fast_path=True)
    bed.mesh.datapath.configure(2.0, fast_path=True, access_log=True)
    before = upcalls(bed)
    with bed.connect() as client:
        for _ in range(REQUESTS):
            client.sendall(get())
            assert read_response(client)[1] == b"hello"
        carried = bed.carried(client).requests
    passed_up = {reason: count - before.get(reason, 0) for reason, count in upcalls(bed).items()}
    drawn, others = passed_up.pop("sampled", 0), sum(passed_up.values())
    assert carried + drawn + others == REQUESTS
    assert carried > REQUESTS / 2
    bed.agent.configure(bed.mesh, fast_path=True)
    bed.agent.stats()  # the log has been closed, and so written
    lines = len(path.read_text().splitlines())
    assert drawn <= lines <= drawn + others
    assert least <= lines <= most


def test_without_a_log_nothing_is_drawn(bed: FastPathBed) -> None:
    bed.configure([bed.serve(answering(PLAIN))], options=HttpOptions(access_log_share=500_000))
    before = upcalls(bed).get("sampled", 0)
    with bed.connect() as client:
        for _ in range(100):
            client.sendall(get())
            assert read_response(client)[1] == b"hello"
        assert bed.carried(client).requests > 0
    assert upcalls(bed).get("sampled", 0) == before
