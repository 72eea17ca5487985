"""The kernel's parsers of heads (bpf/), called on this machine and held to the proxy's."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import messages
from fuzz.agreement import Agreement
from fuzz.messages import FOLDER, INDEXED, try_one
from fuzz.mutation import PIECES, Mutator
from fuzz.native import UPCALLS, Heads

GET = b"GET /api/v1/users?id=7 HTTP/1.1\r\nHost: users.shop:8080\r\nAccept: */*\r\nX-Canary: yes\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\nConnection: keep-alive\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Length: 16\r\nServer: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\ndate: x\r\nConnection: Keep-Alive\r\n\r\n"
HEADS = (GET, POST, OK, CHUNKED)

NOT_TAKEN = {
    "incomplete": ("cut", "too-long", "too-many-fields"),
    "syntax": (
        *("bare-cr", "bare-line-ends", "blank-at-end", "empty-value", "empty-value-blank", "folded", "latin"),
        *("no-blank", "space-before-colon", "tab", "two-blanks", "version-10", "zero"),
    ),
    "method": ("connect", "leading-line", "methods-unknown"),
    "target": ("absolute", "asterisk", "fragment", "path-257", "query-first", "query-odd"),
    "field": (
        *("close", "expect", "forwarded-for", "host-none", "host-twice", "java-upgrade", "keep-alive"),
        *("keep-alive-twice", "length-twice", "name-of-65", "name-wraps", "nominates", "port-long", "te"),
        *("trailer", "user-agent-twice", "via", "websocket"),
    ),
    "body": ("both-framings", "chunked", "length-11", "length-list", "length-plus"),
}
"""Requests of the corpus, by the reason why the kernel leaves them to the proxy. It takes the others."""
RESPONSES_NOT_TAKEN = (
    *("100", "101", "204-length", "both-framings", "chunked-case", "chunked-gzip", "chunked-twice"),
    *("date-twice", "gunicorn", "java", "java-blank", "length-twice", "no-date", "nominates", "reason-odd"),
    *("status-4", "status-99", "status-999", "trailer", "until-close", "upgrade", "version-10", "via"),
)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    return Heads(tmp_path_factory.mktemp("native"), INDEXED)


@pytest.fixture(scope="module")
def agreement(native: Heads) -> Agreement:
    return Agreement(native)


def kept(kind: str) -> dict[str, bytes]:
    """The corpus' requests, or responses, by name."""
    return {path.name.removeprefix(kind): path.read_bytes() for path in FOLDER.glob(f"{kind}*")}


def test_requests_of_the_corpus(native: Heads, agreement: Agreement) -> None:
    requests = kept("request-")
    expected = {name: reason for reason, names in NOT_TAKEN.items() for name in names}
    assert set(expected) < set(requests)
    for name, message in requests.items():
        reason = UPCALLS[native.parse_request(message)] if native.parse_request(message) else None
        assert reason == expected.get(name), name
        assert agreement.request(message) is (reason is None)


def test_responses_of_the_corpus(agreement: Agreement) -> None:
    responses = kept("response-")
    assert set(RESPONSES_NOT_TAKEN) < set(responses)
    for name, message in responses.items():
        assert agreement.response(message) is (name not in RESPONSES_NOT_TAKEN), name
        agreement.response(message, "HEAD")


def test_what_a_request_is_found_to_be(native: Heads) -> None:
    assert native.parse_request(GET + b"rest") == 0
    found = native.request
    assert GET[found.path_start : found.path_end] == b"/api/v1/users"
    assert (found.length, found.has_query, found.content_length) == (len(GET), 1, 0)
    assert [each.end - found.path_start for each in found.element[: found.elements]] == [4, 7]
    canary = found.field[INDEXED.index(b"x-canary")]
    assert GET[canary.start : canary.start + canary.length] == b"yes"


def test_what_a_response_is_found_to_be(native: Heads) -> None:
    assert native.parse_response(OK + b"rest") == 0
    found = native.response
    assert (found.length, found.status, found.content_length, found.chunked) == (len(OK), 200, 16, 0)
    assert native.parse_response(CHUNKED) == 0
    assert (found.status, found.content_length, found.chunked) == (404, 0, 1)


def test_a_response_to_head_has_no_body(native: Heads) -> None:
    assert native.parse_response(OK, to_head=True) == 0
    assert native.response.content_length == 0
    assert native.parse_response(OK.replace(b"Content-Length: 16\r\n", b"")) != 0
    assert native.parse_response(OK.replace(b"Content-Length: 16\r\n", b""), to_head=True) == 0
    assert native.parse_response(CHUNKED, to_head=True) != 0


@pytest.mark.parametrize("head", HEADS)
def test_no_part_of_a_head_is_taken(native: Heads, head: bytes) -> None:
    for end in range(len(head)):
        if head.startswith(b"HTTP/"):
            assert native.parse_response(head[:end]) != 0
        else:
            assert UPCALLS[native.parse_request(head[:end])] == "incomplete" or end < 16


@pytest.mark.parametrize("head", HEADS)
def test_every_byte_at_every_place(agreement: Agreement, head: bytes) -> None:
    for at in range(len(head)):
        for byte in range(256):
            try_one(agreement, b"%b%c%b" % (head[:at], byte, head[at + 1 :]), 1)
            try_one(agreement, b"%b%c%b" % (head[:at], byte, head[at:]), 1)


@pytest.mark.parametrize("head", HEADS)
def test_every_piece_at_every_place(agreement: Agreement, head: bytes) -> None:
    for at in range(len(head)):
        for piece in PIECES:
            try_one(agreement, head[:at] + piece + head[at:], 1)


@pytest.mark.parametrize("filled", [0, 0xFF])
def test_nothing_is_left_of_the_head_before(native: Heads, agreement: Agreement, filled: int) -> None:
    for head in HEADS * 2:
        ctypes.memset(ctypes.byref(native.request), filled, ctypes.sizeof(native.request))
        ctypes.memset(ctypes.byref(native.response), filled, ctypes.sizeof(native.response))
        assert try_one(agreement, head, 1)


def test_each_name_that_matters_in_any_case(native: Heads) -> None:
    names = (b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Upgrade", b"Expect", b"Via")
    others = (b"HTTP2-Settings", b"X-Forwarded-For", b"Transfer-Encoding", b"Host", b"Content-Length")
    for name in names + others:
        for spelled in (name, name.lower(), name.upper(), name.swapcase()):
            assert native.parse_request(POST[:-2] + spelled + b": 1\r\n\r\n") != 0, spelled
        for other in (name + b"-", b"-" + name, name[:-1], name + b"a" * 20, b"a" * 8 + name):
            assert native.parse_request(POST[:-2] + other + b": 1\r\n\r\n") == 0, other


def test_a_head_of_2048_bytes_is_the_longest(native: Heads) -> None:
    room = 2048 - len(GET) - len(b"X: \r\n")
    assert native.parse_request(GET[:-2] + b"X: " + b"v" * room + b"\r\n\r\n") == 0
    assert native.request.length == 2048
    longer = GET[:-2] + b"X: " + b"v" * (room + 1) + b"\r\n\r\n"
    assert UPCALLS[native.parse_request(longer + b"rest")] == "incomplete"


names = st.text("abcxyzABCXYZ0189-_", min_size=1, max_size=70).map(str.encode)
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40).map(str.encode)
lines = st.one_of(
    st.tuples(names, values).map(lambda field: field[0] + b": " + field[1] + b"\r\n"),
    st.sampled_from([piece for piece in PIECES if piece.endswith(b"\r\n")]),
)
targets = st.text("abcXYZ019-._~!$&'()*+,;=:@/%20?", max_size=60).map(lambda text: b"/" + text.encode())
methods = st.sampled_from((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"))


@given(method=methods, target=targets, fields=st.lists(lines, max_size=12), rest=st.binary(max_size=20))
def test_requests(
    agreement: Agreement, method: bytes, target: bytes, fields: list[bytes], rest: bytes
) -> None:
    head = method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(fields) + b"\r\n"
    agreement.request(head + rest)


@given(
    status=st.integers(0, 1000),
    reason=values,
    fields=st.lists(lines, max_size=12),
    rest=st.binary(max_size=20),
    method=methods,
)
def test_responses(
    agreement: Agreement, status: int, reason: bytes, fields: list[bytes], rest: bytes, method: bytes
) -> None:
    head = b"HTTP/1.1 %03d %b\r\nDate: a\r\n" % (status, reason) + b"".join(fields) + b"\r\n"
    agreement.response(head + rest, method.decode())


@given(
    target=targets.filter(lambda target: len(target.split(b"?")[0]) <= 256),
    fields=st.lists(st.tuples(names, values.map(bytes.strip).filter(bool)), max_size=12),
    host=st.from_regex(
        rb"[A-Za-z0-9._-]{1,60}(:[0-9]{0,5})?|\[[0-9a-fA-F:.]{1,40}\](:[0-9]{1,5})?", fullmatch=True
    ),
)
def test_plain_requests_are_taken(
    agreement: Agreement, target: bytes, fields: list[tuple[bytes, bytes]], host: bytes
) -> None:
    """No field of these has a meaning: their names begin with z."""
    written = b"".join(b"z" + name[:63] + b": " + value + b"\r\n" for name, value in fields)
    assert agreement.request(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + written + b"\r\n")


def test_a_hundred_thousand_changed_messages(agreement: Agreement) -> None:
    """The same ones each time; ``make fuzz`` tries others."""
    mutator = Mutator(messages.favoured(agreement, messages.read()), seed=1)
    taken = sum(try_one(agreement, mutator.next(), number) for number in range(100_000))
    assert taken > 10_000
