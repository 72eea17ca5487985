"""The captured connections that are open, for a person to look at."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from meshd.datapath.addresses import End, address_text
from meshd.datapath.flows.keys import ConnectionKeys, FlowKeys
from meshd.datapath.kernel.bpf_batch import entries
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Codec, Layout


class FlowState(enum.Enum):
    """What is going on, as far as it is in the maps: who has read what only the programs see."""

    NEW = "new"
    """The proxy has not armed it, or disarmed it: all its requests take the slow path."""
    IDLE = "idle"
    """The kernel may carry the next request, and carries none now."""
    BUSY = "busy"
    """It carries one."""


FLOW_MAPS = ("flows", "armed", "spliced_flows", "spliced")
"""That a FlowList reads."""


class SplicedFlow(NamedTuple):
    """What there is to say of a connection that is spliced."""

    endpoint: End
    requests: int
    """That its client's redirected bytes have begun, mod 2**32."""
    up: bool
    """The client's last bytes were redirected."""
    down: bool
    """The server's."""


class OpenFlow(NamedTuple):
    """One connection. Addresses in canonical text form."""

    netns: int
    client: End
    destination: End
    requests: int
    """Carried by the kernel, mod 2**32."""
    upcalls: int
    """The client's messages that went to the proxy, mod 2**32."""
    state: FlowState
    opened: float
    """By time.monotonic."""
    rules: int
    """The fingerprint that it is armed by; 0: it is not."""
    endpoints: tuple[End, ...]
    """Of the upstream connections that the kernel may use for it."""
    spliced: SplicedFlow | None = None


class FlowList:
    """Reads the maps."""

    def __init__(self, maps: Iterable[Map], layout: Layout) -> None:
        """``maps``: FLOW_MAPS; taken over. Raises KeyError (a layout of other programs)."""
        self._flows, self._armed, self._spliced_flows, self._spliced = maps
        self._keys = FlowKeys(layout)
        self._connection_keys = ConnectionKeys(layout)
        self._ways = layout.codec("spliced", "up.frames.opened", "up.redirecting", "down.redirecting")
        self._flow = layout.codec(
            "flow",
            "destination.address",
            "destination.port",
            "requests",
            "responses",
            "upcalls",
            "request_left",
            "given_up",
            "opened",
        )
        self._arming = layout.codec("arming", "rules", "adopted", "upstreams")
        fields = {field.name for field in layout.structs["arming"].fields}
        self._upstreams: list[Codec] = []
        while f"upstream[{(at := len(self._upstreams))}].kind" in fields:
            server = f"upstream[{at}].connection.server"
            names = (f"upstream[{at}].kind", f"{server}.address", f"{server}.port")
            self._upstreams.append(layout.codec("arming", *names))
        self._missing = layout.enums["upstream_kind"]["UPSTREAM_MISSING"]

    def read(self, limit: int) -> list[OpenFlow]:
        """At most so many, in no order. Raises OSError."""
        found: list[OpenFlow] = []
        for key, value in entries(self._flows):
            if len(found) == limit:
                break
            found.append(self._open_flow(key, value))
        return found

    def close(self) -> None:
        """Close the maps' fds."""
        for opened in (self._flows, self._armed, self._spliced_flows, self._spliced):
            opened.close()

    def _open_flow(self, key: bytes, value: bytes) -> OpenFlow:
        netns, client = self._keys.unpack(key)
        to, to_port, requests, responses, upcalls, left, given_up, opened = self._flow.unpack(value)
        arming = self._armed.get(key)
        rules, state = 0, FlowState.NEW
        endpoints: tuple[End, ...] = ()
        if arming is not None:
            rules, adopted, upstreams = self._arming.unpack(arming)
        if arming is not None and rules:
            carrying = (left and not given_up) or requests != (responses + adopted) % 2**32
            state = FlowState.BUSY if carrying else FlowState.IDLE
            endpoints = self._endpoints(arming, upstreams)
        return OpenFlow(
            netns,
            client,
            (address_text(to), to_port),
            requests,
            upcalls,
            state,
            opened / 1e9,
            rules,
            endpoints,
            self._spliced_flow(key),
        )

    def _spliced_flow(self, key: bytes) -> SplicedFlow | None:
        connection = self._spliced_flows.get(key)
        value = None if connection is None else self._spliced.get(connection)
        if connection is None or value is None:
            return None
        requests, up, down = self._ways.unpack(value)
        return SplicedFlow(self._connection_keys.server(connection), requests, up != 0, down != 0)

    def _endpoints(self, arming: bytes, upstreams: int) -> tuple[End, ...]:
        found: dict[End, None] = {}
        for codec in self._upstreams[:upstreams]:
            kind, address, port = codec.unpack(arming)
            if kind != self._missing:
                found[address_text(address), port] = None
        return tuple(found)
