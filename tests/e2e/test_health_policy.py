"""A pod that fails gets no requests until it is well, as the policies say that were applied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab, until

SECONDS = 90.0
_ASK = "for i in 1 2 3 4 5 6 7 8; do curl -sS --max-time 10 -w ' %{http_code}\\n' http://$0/; done"


@pytest.fixture(scope="module")
def moody(lab: Lab, pods: Path) -> Iterator[Lab]:
    lab.run("apply", "-f", str(pods / "moody.yaml"))
    until(lambda: _both_answer(lab, "probed") and _both_answer(lab, "judged"), SECONDS)
    yield lab
    lab.run("delete", "-f", str(pods / "moody.yaml"))


def _mood(lab: Lab, answer: int, health: int) -> None:
    """Of the pod on the other node."""
    lab.exec("moody-2", "curl", "-sS", "-X", "PUT", "-d", f"{answer} {health}", "http://127.0.0.1:8080/mood")


def _answers(lab: Lab, service: str) -> set[str]:
    """Of eight requests: who answered, and with what."""
    return set(lab.exec("client", "sh", "-c", _ASK, service).splitlines())


def _both_answer(lab: Lab, service: str) -> bool:
    return _answers(lab, service) == {"moody-1 200", "moody-2 200"}


def _left_out(lab: Lab, service: str) -> list[tuple[str, str, str]]:
    """Pod, by whom, and the reason."""
    found = [each for each in lab.endpoints() if each.cluster == f"default/{service}:80"]
    return [(each.workload, each.by, each.reason) for each in found if each.by]


def test_who_fails_its_probes_is_left_out_until_it_passes_them(moody: Lab) -> None:
    _mood(moody, 200, 503)
    _answers(moody, "probed")  # who is not in use is not probed
    until(lambda: _left_out(moody, "probed") == [("default/moody-2", "probe", "HTTP status 503")], SECONDS)
    assert _answers(moody, "probed") == {"moody-1 200"}
    assert _both_answer(moody, "judged")
    health = moody.status().health
    assert (health.probed, health.left_out) == (2, 1)
    _mood(moody, 200, 200)
    until(lambda: _both_answer(moody, "probed"), SECONDS)
    assert _left_out(moody, "probed") == []


def test_who_answers_500_is_ejected_and_comes_back(moody: Lab) -> None:
    _mood(moody, 500, 200)

    def is_ejected() -> bool:
        _answers(moody, "judged")
        return [each[:2] for each in _left_out(moody, "judged")] == [("default/moody-2", "ejection")]

    until(is_ejected, SECONDS)
    assert "moody-2 500" in _answers(moody, "probed") | _answers(moody, "probed")
    _mood(moody, 200, 200)
    until(lambda: _both_answer(moody, "judged"), SECONDS)
    assert _left_out(moody, "judged") == []
    assert moody.status().health.ejections["consecutive_5xx"] > 0
