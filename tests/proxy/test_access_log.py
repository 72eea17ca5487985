"""The access log: which requests it has, and its two forms."""

from __future__ import annotations

import json

import pytest

from meshd.model.request_policies import MILLION
from proxy.telemetry.access_log import AccessLogEntry, format_json, format_text, is_logged
from proxy.telemetry.response_flags import Flag, joined


@pytest.mark.parametrize(
    ("share", "drawn", "at", "logged"),
    [
        (MILLION, False, 0.999, True),
        (MILLION, None, 0.999, True),
        (100_000, True, 0.999, True),
        (100_000, False, 0.0, False),
        (100_000, None, 0.099_999, True),
        (100_000, None, 0.1, False),
        (0, None, 0.0, False),
    ],
)
def test_a_share_is_logged_and_of_what_the_kernel_drew_that(
    share: int, drawn: bool | None, at: float, logged: bool
) -> None:
    assert is_logged(share, drawn, lambda: at) is logged


def full() -> AccessLogEntry:
    return AccessLogEntry(
        start=1460751600.3109,
        method="POST",
        path="/api/v1/locations?x=1",
        protocol="HTTP/1.1",
        status=204,
        duration=0.2269,
        bytes_received=154,
        bytes_sent=7,
        upstream_service_time=0.1,
        forwarded_for="10.0.35.28",
        user_agent="nsq2http",
        request_id="cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2",
        authority="locations",
        upstream_host="10.0.2.1:80",
        upstream_cluster="ns/locations:80",
        route="ns/locations/0",
        source="ns/client",
    )


def test_text_is_envoys_example_line() -> None:
    # From Envoy's documentation of its default format.
    assert format_text(full()) == (
        '[2016-04-15T20:20:00.310Z] "POST /api/v1/locations?x=1 HTTP/1.1" 204 - 154 7 226 100 "10.0.35.28" '
        '"nsq2http" "cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations" "10.0.2.1:80"'
    )


def test_text_writes_what_is_not_known_as_a_dash() -> None:
    entry = AccessLogEntry(start=0.0, method="", path="", protocol="", status=0, duration=0.0, flags="DC")
    assert format_text(entry) == '[1970-01-01T00:00:00.000Z] "- - -" 0 DC 0 0 0 - "-" "-" "-" "-" "-"'


def test_json_has_all_fields() -> None:
    line = format_json(full())
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["start_time"] == "2016-04-15T20:20:00.310Z"
    assert fields["response_code"] == 204
    assert fields["response_flags"] is None
    assert fields["duration"] == 226
    assert fields["upstream_service_time"] == 100
    assert fields["source_workload"] == "ns/client"


def test_json_takes_whatever_a_client_sends() -> None:
    entry = AccessLogEntry(
        start=0.0,
        method="GET",
        path=b"/\xff\xc3\xa9".decode("utf-8", "surrogateescape"),
        protocol="HTTP/1.1",
        status=200,
        duration=0.0,
        user_agent='a"\\\x00\n',
    )
    line = format_json(entry)
    line.encode()
    assert "\n" not in line
    fields = json.loads(line)
    assert fields["path"] == "/\ufffdé"
    assert fields["user_agent"] == 'a"\\\x00\n'


def test_flags_are_joined_in_order() -> None:
    assert joined() == ""
    assert joined(Flag.UPSTREAM_CONNECT_FAILURE, Flag.UPSTREAM_RETRY_LIMIT) == "UF,URX"
