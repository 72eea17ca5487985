"""What is read of a client's first bytes: by the RFCs, from real clients, and however they are cut."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tls.client_hello import MAX_BYTES, Hello, HelloReader
from tests.proxy.tcp.tcp_bed import hello

Extension = tuple[int, bytes]
GREASE = 0x3A3A
NAME = "web.example.com"


def server_name(name: bytes, kind: int = 0) -> Extension:
    entry = bytes((kind,)) + struct.pack("!H", len(name)) + name
    return 0, struct.pack("!H", len(entry)) + entry


def message(
    extensions: Iterable[Extension] | None = (server_name(NAME.encode()),), session: bytes = b""
) -> bytes:
    """A ClientHello. ``extensions``: None: without the field."""
    suites = struct.pack("!3H", GREASE, 0x1301, 0xC02B)
    body = b"\3\3" + bytes(range(32)) + bytes((len(session),)) + session
    body += struct.pack("!H", len(suites)) + suites + b"\1\0"
    if extensions is not None:
        packed = b"".join(struct.pack("!HH", kind, len(data)) + data for kind, data in extensions)
        body += struct.pack("!H", len(packed)) + packed
    return b"\1" + len(body).to_bytes(3) + body


def records(content: bytes, *sizes: int, version: int = 0x0301) -> bytes:
    """``content`` in handshake records of these sizes, and the rest in one."""
    out, at = b"", 0
    for size in (*sizes, len(content)):
        part = content[at : at + size]
        at += size
        if part:
            out += struct.pack("!BHH", 22, version, len(part)) + part
    return out


def read(data: bytes, *cuts: int) -> Hello | None:
    """What a reader says that is given ``data`` cut at these places."""
    reader, at = HelloReader(), 0
    for end in (*sorted(cuts), len(data)):
        found = reader.feed(data[at:end])
        if found is not None:
            return found
        at = end
    return None


def test_a_name_is_read_in_lower_case() -> None:
    assert read(records(message([server_name(b"WEB.Example.COM")]))) == Hello(True, NAME)


@pytest.mark.parametrize("extensions", [None, (), ((GREASE, b""), (16, b"\0\3\2h2"))])
def test_a_hello_may_ask_for_no_name(extensions: tuple[Extension, ...] | None) -> None:
    assert read(records(message(extensions))) == Hello(True)


def test_unknown_extensions_before_and_after_the_name_are_passed_over() -> None:
    around = [
        (GREASE, b""),
        (21, bytes(200)),
        server_name(NAME.encode()),
        (0xFE0D, bytes(250)),
        (0x4A4A, b"\0"),
    ]
    assert read(records(message(around, session=bytes(32)))) == Hello(True, NAME)


def test_the_name_seen_of_an_encrypted_client_hello_is_the_outer_one() -> None:
    inner = message([server_name(b"hidden.example")])
    ech = b"\0\0\1\0\1\7" + struct.pack("!H", 32) + bytes(32) + struct.pack("!H", len(inner)) + inner
    found = read(records(message([(0xFE0D, ech), server_name(b"outer.example")])))
    assert found == Hello(True, "outer.example")


def test_every_cut_into_two_segments_tells_the_same() -> None:
    data = records(message([(21, bytes(300)), server_name(NAME.encode())]), 1, 3, 200)
    assert {read(data, cut) for cut in range(len(data) + 1)} == {Hello(True, NAME)}


def test_every_cut_into_two_records_tells_the_same() -> None:
    content = message()
    assert {read(records(content, cut)) for cut in range(len(content) + 1)} == {Hello(True, NAME)}


def test_one_byte_at_a_time_in_records_of_one_byte() -> None:
    content = message()
    data = records(content, *(1 for _ in content))
    assert read(data, *range(len(data))) == Hello(True, NAME)


def test_nothing_is_told_before_all_is_there() -> None:
    data = records(message(), 50)
    assert all(read(data[:end]) is None for end in range(len(data)))


def test_what_follows_the_hello_does_not_matter() -> None:
    assert read(records(message() + b"\x0b\0\0\1x") + b"\x17early data") == Hello(True, NAME)


@pytest.mark.parametrize("minor", range(5))
def test_the_minor_version_of_a_record_says_nothing(minor: int) -> None:
    assert read(records(message(), version=0x0300 + minor)) == Hello(True, NAME)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a handshake record"),
        (b"\x80\x2e\x01\x03\x01", "not a handshake record"),  # SSL 2
        (b"\x15\3\1\0\2\2\x28", "not a handshake record"),  # an alert
        (b"\x16\4\0\0\1\1", "not a record of TLS"),
        (b"\x16\3\1\0\0", "a record of 0 bytes"),
        (b"\x16\3\1\x40\1" + bytes(9), "a record of 16385 bytes"),
        (records(b"\2" + message()[1:]), "no ClientHello"),
        (records(b"\1" + (MAX_BYTES + 1).to_bytes(3) + bytes(9)), f"a ClientHello of {MAX_BYTES + 1} bytes"),
        (records(b"\1\0\0\1\3"), "ends early"),
        (records(b"\1\0\0\0"), "ends early"),
        (records(message(session=bytes(33))), "too long a session id"),
        (records(b"\1\0\0\x26" + b"\3\3" + bytes(36)), "no list of cipher suites"),
        (records(b"\1\0\0\x28" + b"\3\3" + bytes(33) + b"\0\2\0\0\0"), "no compression methods"),
        (records(b"\1" + (len(message()) - 3).to_bytes(3) + message()[4:] + b"\0"), "goes on after"),
        (records(message([server_name(b"a"), server_name(b"b")])), "an extension twice"),
        (records(message([(0, b"")])), "ends early"),
        (records(message([(0, server_name(b"a")[1] + b"\0")])), "more than one server name"),
        (records(message([server_name(b"")])), "by no host name"),
        (records(message([server_name(b"a", kind=1)])), "by no host name"),
        (records(message([server_name(b"a\0b")])), "by no host name"),
        (records(message([server_name("bücher.example".encode())])), "by no host name"),
        (records(message([server_name(b"a" * 256)])), "by no host name"),
    ],
)  # fmt: skip
def test_what_is_no_hello_is_refused_however_it_is_cut(data: bytes, why: str) -> None:
    found = read(data)
    assert found is not None
    assert not found.is_tls
    assert why in found.why_not
    cut = read(data, *range(len(data)))
    assert cut is not None
    assert not cut.is_tls


def test_a_hello_of_some_thousand_bytes_is_read() -> None:
    large = [(0x0033, bytes(12_000)), server_name(NAME.encode()), (41, bytes(9_000))]
    assert read(records(message(large), 16384)) == Hello(True, NAME)


def test_no_more_is_kept_than_the_bound() -> None:
    endless = records(message([(0x0033, bytes(40_000))]), 16384, 16384)
    reader = HelloReader()
    found = reader.feed(endless[:20_000])
    assert found is not None  # its length alone is too much
    assert not found.is_tls
    trickle = records(b"\1\0\x7f\xff" + bytes(32_000), *(1 for _ in range(32_000)))
    reader = HelloReader()
    fed = 0
    for at in range(0, len(trickle), 1000):
        fed += 1000
        found = reader.feed(trickle[at : at + 1000])
        if found is not None:
            break
    assert found == Hello(False, why_not=f"more than {MAX_BYTES} bytes")
    assert fed < MAX_BYTES + 1000


@pytest.mark.parametrize("name", [NAME, None])
def test_pythons_own_hello_is_read(name: str | None) -> None:
    assert read(hello(name, ("h2", "http/1.1"))) == Hello(True, name or "")


@st.composite
def hellos(draw: st.DrawFn) -> tuple[bytes, Hello]:
    """A hello in records, and what it says."""
    others = draw(
        st.dictionaries(st.integers(1, 0xFFFF), st.binary(max_size=40), max_size=5).map(
            lambda d: list(d.items())
        )
    )
    name = draw(
        st.none() | st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z]{1,9}){0,3}", fullmatch=True)
    )
    if name is not None:
        others.insert(draw(st.integers(0, len(others))), server_name(name.encode()))
    sizes = draw(st.lists(st.integers(1, 80), max_size=8))
    return records(message(others, session=draw(st.binary(max_size=32))), *sizes), Hello(True, name or "")


@given(hellos(), st.lists(st.integers(0, 800), max_size=6))
def test_any_hello_cut_in_any_way_tells_the_same(made: tuple[bytes, Hello], cuts: list[int]) -> None:
    data, expected = made
    assert read(data, *(cut for cut in cuts if cut <= len(data))) == expected


def _mutated(data: bytes, chance: random.Random) -> Iterator[int]:
    changes = {chance.randrange(len(data)): chance.randrange(256) for _ in range(chance.randint(1, 4))}
    for at, byte in enumerate(data):
        yield changes.get(at, byte)


@given(hellos(), st.randoms(use_true_random=False))
def test_a_changed_hello_is_told_alike_whole_and_in_pieces(
    made: tuple[bytes, Hello], chance: random.Random
) -> None:
    data = bytes(_mutated(made[0], chance))[: chance.randint(1, len(made[0]))]
    whole = read(data)
    assert read(data, *range(len(data))) == whole
    if whole is not None and not whole.is_tls:
        assert whole.server_name == ""
        assert whole.why_not
