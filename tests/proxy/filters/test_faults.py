"""Which delay and which failure a request gets."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from meshd.model.request_policies import MILLION, Fault, StringMatch
from proxy.filters.faults import (
    ABORT_PERCENTAGE,
    ABORT_REQUEST,
    DELAY_PERCENTAGE,
    DELAY_REQUEST,
    MAX_DELAY_SECONDS,
    NO_FAULT,
    Draw,
    FaultPolicy,
)
from proxy.requests.request_head import RequestHead


def draw(fault: Fault, fields: dict[str, str] | None = None, at: float = 0.0) -> Draw:
    head = RequestHead("GET", "/", None, "web", CIMultiDict(fields or {}))
    return FaultPolicy(fault).draw(head, at, at)


ALWAYS = Fault(delay=1.5, delay_share=MILLION, abort=503, abort_share=MILLION)
BY_HEADER = Fault(by_header=True, delay_share=MILLION // 2, abort_share=MILLION // 4)


@pytest.mark.parametrize("at", [0.0, 0.999_999_9])
def test_a_whole_share_is_every_request(at: float) -> None:
    assert draw(ALWAYS, at=at) == Draw(1.5, 503)


def test_no_share_is_none() -> None:
    assert draw(Fault(delay=1.5, abort=503)) == NO_FAULT


@pytest.mark.parametrize(
    ("at", "drawn"), [(0.249_999, Draw(2, 418)), (0.25, Draw(2, 0)), (0.499_999, Draw(2, 0)), (0.5, NO_FAULT)]
)
def test_shares_are_drawn_apart(at: float, drawn: Draw) -> None:
    fault = Fault(delay=2, delay_share=MILLION // 2, abort=418, abort_share=MILLION // 4)
    assert draw(fault, at=at) == drawn


def test_only_requests_with_all_of_the_fields() -> None:
    fault = Fault(
        abort=503,
        abort_share=MILLION,
        headers=(
            StringMatch(name="x-user", value="tester"),
            StringMatch(name="x-n", value="[0-9]+", regex=True),
        ),
    )
    assert draw(fault, {"x-user": "tester", "X-N": "17"}).abort == 503
    assert draw(fault, {"x-user": "tester"}) == NO_FAULT
    assert draw(fault, {"x-user": "tester", "x-n": "17a"}) == NO_FAULT


@pytest.mark.parametrize(
    ("fields", "drawn"),
    [
        ({}, NO_FAULT),
        ({DELAY_REQUEST: "250"}, Draw(0.25, 0)),
        ({DELAY_REQUEST: "0"}, NO_FAULT),
        ({ABORT_REQUEST: "418"}, Draw(0.0, 418)),
        ({DELAY_REQUEST: "10", ABORT_REQUEST: "599"}, Draw(0.01, 599)),
        ({ABORT_REQUEST: "199"}, NO_FAULT),
        ({ABORT_REQUEST: "600"}, NO_FAULT),
        ({ABORT_REQUEST: "-200"}, NO_FAULT),
        ({ABORT_REQUEST: "five"}, NO_FAULT),
        ({DELAY_REQUEST: "1e3"}, NO_FAULT),
        ({DELAY_REQUEST: "9" * 20}, NO_FAULT),
        ({DELAY_REQUEST: "9" * 19}, Draw(MAX_DELAY_SECONDS, 0)),
        ({DELAY_REQUEST: "³"}, NO_FAULT),
    ],
)
def test_a_request_asks_for_its_fault(fields: dict[str, str], drawn: Draw) -> None:
    assert draw(BY_HEADER, fields) == drawn


def test_without_leave_it_asks_in_vain() -> None:
    asking = {DELAY_REQUEST: "10", ABORT_REQUEST: "418", ABORT_PERCENTAGE: "0"}
    assert draw(ALWAYS, asking) == Draw(1.5, 503)


@pytest.mark.parametrize(
    ("percentage", "at", "drawn"),
    [
        ("10", 0.099, True),
        ("10", 0.1, False),
        ("0", 0.0, False),
        # Not more than the policy gives; what is no number is as if it were not there.
        ("100", 0.49, True),
        ("100", 0.5, False),
        ("many", 0.49, True),
        (str(2**32), 0.49, True),
    ],
)
def test_it_asks_for_a_share_up_to_the_policys(percentage: str, at: float, drawn: bool) -> None:
    found = draw(BY_HEADER, {DELAY_REQUEST: "10", DELAY_PERCENTAGE: percentage}, at)
    assert (found.delay > 0) is drawn
