"""The soak, short: ``make soak`` is the same for longer."""

from __future__ import annotations

from soak.clients import End
from soak.run import soak

SECONDS, CONNECTIONS, SEED = 20.0, 600, 7


def test_nothing_is_wrong_and_nothing_is_left() -> None:
    result = soak(SECONDS, CONNECTIONS, SEED)
    assert not result.faults, "\n".join(result.faults)
    assert result.ends[End.ANSWERED] > CONNECTIONS
    assert result.carried > CONNECTIONS
    assert set(result.ends) >= {End.ANSWERED, End.REFUSED, End.CUT, End.GONE}
