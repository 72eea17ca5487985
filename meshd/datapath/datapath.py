"""The node's kernel side: programs in force, and the maps behind them."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from meshd import log
from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import cgroup
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading import attachment, carry, source
from meshd.datapath.loading.handover import Handover, may_share
from meshd.datapath.loading.layout import Layout
from meshd.datapath.loading.layout_file import layout_path, read_layout
from meshd.datapath.loading.map_names import MAPS, WORKER_MAPS
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import PROGRAMS
from meshd.datapath.members import MemberMaps
from meshd.datapath.rules.compilation import CompiledRules
from meshd.datapath.rules.maps import RuleMaps
from meshd.datapath.services.maps import ServiceMaps
from meshd.model.snapshot import Snapshot

_logger = logging.getLogger("meshd.datapath")

DEFAULT_MARK = 0x6D657368
"""SO_MARK of the proxy's own sockets: "mesh"."""
_PLAIN = 0x10000000
"""What is other about the mark of those whose bytes the kernel never carries."""
HEARTBEAT_TIMEOUT = 2.0
"""Seconds without a beat of any worker after which capture takes the proxy for gone."""
_LOADER_SECONDS = 60
_FIRST = struct.pack("=I", 0)
_FLOWS, _ENDS = ("flows_opened", "flows_closed"), ("ends_opened", "ends_closed")


class Datapath:
    """Programs in force at one cgroup, with their maps. Made by ``ensure_loaded``."""

    def __init__(self, pins: Pins, layout: Layout, at: Path, mark: int) -> None:
        """Open the pinned maps. Raises OSError, KeyError (a layout of other programs)."""
        self.pin_dir = pins.folder
        self.cgroup = at
        self.layout = layout
        self.layout_json = layout.to_json()
        self.mark = mark
        self.plain_mark = mark ^ _PLAIN
        self.handover: Handover | None = None
        """What is left to do until these programs, and no others, are in force."""
        self._maps: dict[str, Map] = {}
        try:
            for name in MAPS:
                self._maps[name] = Map.pinned(pins.map(layout, name))
            self._members = MemberMaps(self._maps["members"], self._maps["homes"], layout)
            self._stats = layout.structs["stats"]
            self._rules = RuleMaps(self._maps["rule_sets"], self._maps["paths"], layout)
            self._services = ServiceMaps(self._maps["services"], self._maps["endpoints"], self._rules, layout)
        except BaseException:
            self.close()
            raise

    def worker_fds(self) -> tuple[int, ...]:
        """The maps that a proxy worker gets, in the order of meshd.model.wire.Configure."""
        return tuple(self._maps[name].fd for name in WORKER_MAPS)

    def open_map(self, name: str) -> Map:
        """One of the maps, with an fd of its own. Raises KeyError, OSError."""
        return Map(os.dup(self._maps[name].fd))

    def close(self) -> None:
        """Close the maps' fds. Programs and maps stay in force. Twice is once."""
        for opened in self._maps.values():
            opened.close()
        self._maps.clear()

    def configure(
        self, heartbeat_timeout: float, fast_path: bool, sample: int = 0, access_log: bool = False
    ) -> None:
        """Write the settings. Raises OSError.

        ``heartbeat_timeout``: in seconds. ``sample``: one in so many requests takes the slow path; 0: none.
        ``access_log``: there is one, and listeners may say which share of their requests it has.
        """
        self._maps["settings"][_FIRST] = self.layout.codec(
            "settings", "heartbeat_timeout_ns", "mark", "plain_mark", "fast_path", "sample", "access_log"
        ).pack(round(heartbeat_timeout * 1e9), self.mark, self.plain_mark, fast_path, sample, access_log)

    def set_member(
        self,
        cookie: int,
        port: int,
        ipv6: bool,
        fast_path: bool = False,
        joins: bool | None = None,
        addresses: Collection[str] = (),
    ) -> None:
        """Capture in the network namespace of that cookie.

        ``port``: of the in-pod listener on 127.0.0.1 and, where ``ipv6`` says so, on ::1. ``fast_path``:
        sockets of the workload may be enrolled. ``joins``: its connections to opaque TCP services are joined,
        or none of its is at either end; None: as the services say. ``addresses``: by which services have it
        as an endpoint. Raises CaptureError.
        """
        self._members.put(cookie, port, ipv6, fast_path, joins, addresses)

    def remove_member(self, cookie: int) -> None:
        """No longer capture there. One that is no member is left as it is. Raises CaptureError."""
        self._members.remove(cookie)

    def members(self) -> frozenset[int]:
        """The cookies of all members, those of an earlier agent too. Raises OSError."""
        return self._members.cookies()

    def apply(self, old: Snapshot, new: Snapshot) -> None:
        """Bring services, endpoints and rules from one snapshot to the next, as ``ServiceMaps.apply``."""
        self._services.apply(old, new)

    def service_ids(self) -> Mapping[str, int]:
        """The kernel's number of each listener in force, as its counts name them."""
        return self._services.ids

    def rules_of(self, listener: str, namespace: str = "") -> CompiledRules | str:
        """By what the kernel carries a listener's requests, or why it carries none.

        ``namespace``: of the callers, where the listener has rules for them; else empty.
        """
        return self._rules.rules_of(listener, namespace)

    def counters(self) -> dict[str, int]:
        """How often capture did what since the programs were first loaded: the fields of ``struct stats``.

        Without those that ``flow_count`` and ``end_count`` are made of. Raises OSError.
        """
        return {name: count for name, count in self._totals().items() if name not in (*_FLOWS, *_ENDS)}

    def flow_count(self) -> int:
        """How many captured connections are open now."""
        return self._open(_FLOWS)

    def end_count(self) -> int:
        """How many sockets are enrolled now to join them with another."""
        return self._open(_ENDS)

    def _open(self, counters: tuple[str, str]) -> int:
        totals = self._totals()
        opened, closed = counters
        return totals[opened] - totals[closed]

    def _totals(self) -> dict[str, int]:
        names = [field.name for field in self._stats.fields]
        counts = carry.sum_counters(self._maps["stats"], self._stats, names)
        return dict(zip(names, counts, strict=True))


def ensure_loaded(
    instance: str,
    at: Path | None = None,
    *,
    mark: int = DEFAULT_MARK,
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT,
    fast_path: bool = False,
    in_use: bool = False,
) -> Datapath:
    """Have the programs of this version in force at a cgroup v2 folder; what is so already is left alone.

    ``at``: default the root of cgroup v2. The programs of an earlier version are replaced one by one, each in
    one step, and their maps' contents stay. ``in_use``: workers of the earlier version may live; if they
    cannot use the same maps, the replacement is left to the caller: ``handover``. Raises DatapathError.
    """
    where = at or cgroup.root()
    number = cgroup.cgroup_id(where)
    pins = Pins(instance)
    handover = None
    try:
        layout_path(instance).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        earlier = read_layout(instance)
        pins.make()
        wanted = source.digest(source.unit())
        if earlier and earlier.digest == wanted and _usable(pins, earlier):
            layout = earlier
        else:
            layout = _load(instance)
            if earlier and in_use and not may_share(earlier, layout) and _usable(pins, earlier):
                handover = Handover(earlier, layout, pins, where, number)
            elif earlier:
                carry.carry_over(earlier, layout, pins)
        datapath = Datapath(pins, layout, where, mark)
        try:
            datapath.configure(heartbeat_timeout, fast_path)
            reused = attachment.in_force(pins, layout, number)
            datapath.handover = handover
            if handover is None:
                if not reused:
                    attachment.attach(pins, layout, where, number)
                if earlier and earlier is not layout:
                    carry.carry_counters(earlier, layout, pins)
                    carry.retire(earlier, layout, pins)
                attachment.remove_obsolete(pins, layout)
        except BaseException:
            datapath.close()
            raise
    except source.SourceMissingError as error:
        raise DatapathError(str(error)) from error
    except OSError as error:
        raise DatapathError(f"bringing the BPF programs in force under {pins.folder}: {error}") from error
    log.event(
        _logger,
        logging.INFO,
        "programs in force" if handover is None else "programs loaded",
        digest=layout.digest,
        cgroup=where,
        pins=pins.folder,
        reused=reused,
    )
    return datapath


def _usable(pins: Pins, layout: Layout) -> bool:
    paths = [pins.map(layout, name) for name in layout.maps]
    paths += [pins.program(layout.digest, program.name) for program in PROGRAMS]
    return all(path.exists() for path in paths)


def _load(instance: str) -> Layout:
    command = [sys.executable, "-m", "meshd.datapath.loading.load", "--instance", instance]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LOADER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise DatapathError(f"the BPF loader did not end within {_LOADER_SECONDS} s") from error
    layout = read_layout(instance)
    if done.returncode == 0 and layout is not None:
        return layout
    lines = done.stderr.strip().splitlines() or [f"the BPF loader ended with code {done.returncode}"]
    for line in lines[:-1]:
        log.event(_logger, logging.DEBUG, "loader", said=line)
    raise DatapathError(lines[-1])
