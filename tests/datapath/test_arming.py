"""What the proxy writes into the maps is what the programs' structs say."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest

from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.arming import ArmingCodec, ArmingFds, ArmingTable, Upstream
from meshd.datapath.flows.table import FlowTable
from meshd.datapath.services.slots import V4_MAPPED


@pytest.fixture
def table(datapath: Datapath) -> Iterator[ArmingTable]:
    fds = ArmingFds(*map(os.dup, datapath.worker_fds()[2:6]))
    with contextlib.closing(ArmingTable(fds, datapath.layout, 4)) as opened:
        yield opened


def test_an_arming_is_packed_as_the_struct_says(datapath: Datapath, table: ArmingTable) -> None:
    key = table.connection_keys.pack(("10.1.0.7", 40000), ("fd00::9", 8080))
    kinds = table.kinds
    entries = [
        Upstream(key, 2**63 + 1, 3, 2**32 + 5, 2**32 + 6, kinds["UPSTREAM_REMOTE"]),
        Upstream(table.codec.no_connection, 7, 9, 0, 0, kinds["UPSTREAM_MISSING"]),
    ]
    value = table.codec.pack(
        2**64 - 1, 2**32 + 1, 2**33 + 2, 2**32 - 1, 3, b"x-forwarded-for: a\r\n", entries
    )
    names = [field.name for field in datapath.layout.structs["arming"].fields]
    read = dict(zip(names, datapath.layout.codec("arming", *names).unpack(value), strict=True))
    assert {name: read[name] for name in ("rules", "consumed", "written", "adopted", "flags")} == {
        "rules": 2**64 - 1,
        "consumed": 1,
        "written": 2,
        "adopted": 2**32 - 1,
        "flags": 3,
    }
    assert read["upstreams"] == 2
    assert read["forwarded_for"][: read["forwarded_for_length"]] == b"forwarded-for: a\r\nx-"
    first = {
        name.removeprefix("upstream[0]."): read[name] for name in names if name.startswith("upstream[0].")
    }
    assert first["connection.proxy.address"] == V4_MAPPED + bytes((10, 1, 0, 7))
    assert (first["connection.proxy.port"], first["connection.server.port"]) == (40000, 8080)
    assert (first["cluster"], first["weight"], first["written"], first["consumed"]) == (2**63 + 1, 3, 5, 6)
    assert first["kind"] == kinds["UPSTREAM_REMOTE"]
    assert (read["upstream[1].cluster"], read["upstream[1].weight"]) == (7, 9)
    assert not any(value[datapath.layout.structs["arming"].place("upstream[2].", 0).start :])


def test_what_has_no_room_is_refused(table: ArmingTable) -> None:
    codec = table.codec
    entry = Upstream(codec.no_connection, 1, 1, 0, 0, table.kinds["UPSTREAM_MISSING"])
    codec.pack(1, 0, 0, 0, 0, b"x" * codec.max_forwarded_for, [entry] * codec.max_upstreams)
    with pytest.raises(ValueError, match="too many"):
        codec.pack(1, 0, 0, 0, 0, b"", [entry] * (codec.max_upstreams + 1))
    with pytest.raises(ValueError, match="too many"):
        codec.pack(1, 0, 0, 0, 0, b"x" * (codec.max_forwarded_for + 1), [])


def test_a_flow_is_armed_and_disarmed(datapath: Datapath, table: ArmingTable) -> None:
    with contextlib.closing(FlowTable(os.dup(datapath.worker_fds()[0]), datapath.layout)) as flows:
        key = flows.key(77, "10.1.0.7", 40000)
        assert flows.carried(key) is None
    value = table.codec.pack(1, 2, 3, 4, 0, b"", [])
    with contextlib.closing(datapath.open_map("armed")) as armed:
        assert not table.disarm(key, 4)
        assert armed.get(key) is None
        table.arm(key, value)
        assert armed.get(key) == value
        assert table.disarm(key, 5)
        assert armed.get(key) == table.codec.pack(0, 0, 0, 5, 0, b"", [])
        table.forget(key)
        table.forget(key)
        assert armed.get(key) is None


def test_the_names_that_the_proxy_asks_for_are_there(datapath: Datapath) -> None:
    assert ArmingCodec(datapath.layout).max_upstreams == 16
    assert struct.calcsize("=I") == datapath.layout.maps["upstreams"].value_size
