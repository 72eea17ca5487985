from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from meshd.kube_api.lease import DURATION, RENEW_DEADLINE, Election, Lease

WALL = datetime(2026, 11, 27, tzinfo=UTC)


class _Store:
    """A server that takes a write only if it was made from what is there."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self._version = 0

    def round(self, election: Election, now: float) -> bool:
        seen = self.lease
        wanted = election.wanted(seen, "meshd", "meshd-system", now, WALL)
        if wanted is None:
            return False
        self.write(wanted)
        election.written(wanted, now)
        return True

    def write(self, lease: Lease) -> None:
        self._version += 1
        metadata = replace(lease.metadata, resource_version=str(self._version))
        self.lease = replace(lease, metadata=metadata)


def test_the_first_leads_until_it_is_silent() -> None:
    store, one, two = _Store(), Election("one"), Election("two")
    assert store.round(one, 0.0)
    assert one.leads(0.0)
    assert not store.round(two, 1.0)
    for now in (2.0, 4.0, 6.0):
        assert store.round(one, now)
        assert not store.round(two, now + 0.1)
    assert one.leads(6.0 + RENEW_DEADLINE - 0.1)
    assert not one.leads(6.0 + RENEW_DEADLINE)
    assert not store.round(two, 6.1 + DURATION - 0.1)
    assert store.round(two, 6.2 + DURATION)
    assert two.leads(6.2 + DURATION)
    assert not store.round(one, 7.0 + DURATION)
    assert not one.leads(7.0 + DURATION)
    assert store.lease is not None
    assert store.lease.spec.lease_transitions == 1


def test_one_that_goes_leaves_it_to_others() -> None:
    store, one, two = _Store(), Election("one"), Election("two")
    store.round(one, 0.0)
    assert store.lease is not None
    store.lease = one.released(store.lease)
    assert not one.leads(0.1)
    assert store.round(two, 0.2)


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 2]), st.floats(0.1, 12.0), st.booleans()), min_size=1, max_size=60
    ),
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
)
def test_two_never_lead_at_once(steps: list[tuple[int, float, bool]], skews: list[float]) -> None:
    """Each candidate's clock begins elsewhere, answers get lost, and a write may be delayed."""
    store = _Store()
    candidates = [Election(str(i)) for i in range(3)]
    now = 0.0
    for who, pause, lost in steps:
        now += pause
        began = now + skews[who]
        wanted = candidates[who].wanted(store.lease, "meshd", "ns", began, WALL)
        if wanted is not None:
            store.write(wanted)
            if not lost:
                candidates[who].written(wanted, began)
        leading = [i for i, each in enumerate(candidates) if each.leads(now + skews[i])]
        assert len(leading) <= 1
