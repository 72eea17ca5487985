"""How endpoints answered what the kernel carried, for who ejects them: the map ``judged``, the agent's bell.

The kernel counts good answers, and tells each bad one with the number of the good ones before it
(bpf/judged.h). So the order of them is known without a word about each.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshd import log
from meshd.datapath.addresses import packed_address
from meshd.datapath.bell import Bell, agent_place
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.rules.fingerprint import cluster_id
from meshd.model.outcomes import EndpointTally, Tally

_logger = logging.getLogger("meshd.datapath.answers")

JudgedEndpoint = tuple[str, str, int]
"""A cluster's name, and the endpoint's address and port."""


class _Good(NamedTuple):
    """Good answers and the nanoseconds that they took, as far as somebody was told of them."""

    number: int
    nanoseconds: int


class CarriedAnswers:
    """One for each node. Owns its bell."""

    def __init__(self, judged: Map, bells: Map, layout: Layout) -> None:
        """Takes the maps over. Raises OSError, KeyError (a layout of other programs)."""
        self._judged = judged
        self._key = layout.codec("judged_endpoint", "cluster", "address.address", "address.port")
        self._good = layout.codec("good_answers", "count", "nanoseconds")
        self._bad = layout.codec("bad_answer", "good", "nanoseconds", "status").unpack
        self._from = layout.structs["bad_answer"].place("from.", self._key.size)
        self._keys: dict[JudgedEndpoint, bytes] = {}
        """Of those that are entered; ``_named`` is the reverse."""
        self._named: dict[bytes, JudgedEndpoint] = {}
        self._seen: dict[bytes, _Good] = {}
        self._left = set(judged)
        """Entered by an earlier agent."""
        self._no_room = False
        with contextlib.closing(bells):
            self._bell = Bell(bells.fd, agent_place(layout), layout)
        self.fd = self._bell.fd
        """Readable when there are bad answers to tell of."""

    def follow(self, endpoints: Iterable[JudgedEndpoint]) -> None:
        """Judge these, and no others. What they answered before is nobody's news. Raises OSError."""
        wanted = frozenset(endpoints)
        for endpoint in self._keys.keys() - wanted:
            key = self._keys.pop(endpoint)
            del self._named[key], self._seen[key]
            self._judged.discard(key)
        new = {endpoint: self._packed(endpoint) for endpoint in wanted - self._keys.keys()}
        for key in self._left.difference(new.values()):
            self._judged.discard(key)
        self._left.clear()
        for endpoint, key in new.items():
            if not self._enter(key):
                break
            self._keys[endpoint], self._named[key] = key, endpoint

    def news(self, endpoints: Iterable[JudgedEndpoint] = ()) -> Iterator[EndpointTally]:
        """The bad answers since the last time in their order, each with the good ones before it.

        Then the good answers of ``endpoints`` since then. Raises OSError.
        """
        # Read before the bad ones are taken: those that came before them are among those.
        keys = [self._keys[endpoint] for endpoint in endpoints if endpoint in self._keys]
        values = [(key, self._judged.get(key)) for key in keys]
        for record in self._bell.take():
            key = record[self._from]
            if key in self._named:
                good, nanoseconds, status = self._bad(record)
                # What the good ones took is told when they are asked for: its sum is of a later moment.
                tally = self._good_until(key, _Good(good, self._seen[key].nanoseconds))
                tally.count(status, nanoseconds / 1e9)
                yield EndpointTally(*self._named[key], tally)
        for key, value in values:
            if value is not None:
                tally = self._good_until(key, _Good(*self._good.unpack(value)))
                if tally.requests or tally.seconds:
                    yield EndpointTally(*self._named[key], tally)

    def _good_until(self, key: bytes, now: _Good) -> Tally:
        seen = self._seen[key]
        tally = Tally()
        tally.count_good(max(0, now.number - seen.number), (now.nanoseconds - seen.nanoseconds) / 1e9)
        self._seen[key] = _Good(max(now.number, seen.number), now.nanoseconds)
        return tally

    def close(self) -> None:
        """Judge nobody. The kernel counts on, for the next agent to begin with."""
        self._bell.close()
        self._judged.close()

    def _packed(self, endpoint: JudgedEndpoint) -> bytes:
        cluster, address, port = endpoint
        return self._key.pack(cluster_id(cluster), packed_address(address), port)

    def _enter(self, key: bytes) -> bool:
        """False: there is no room."""
        value = self._judged.get(key)
        if value is None:
            value = bytes(self._judged.value_size)
            try:
                self._judged[key] = value
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                if not self._no_room:
                    log.event(
                        _logger,
                        logging.WARNING,
                        "no room to judge an endpoint in the kernel: its requests take the slow path",
                        entries=self._judged.max_entries,
                        remedy="raise MESHD_MAX_JUDGED in bpf/consts.h",
                    )
                self._no_room = True
                return False
        self._no_room = False
        self._seen[key] = _Good(*self._good.unpack(value))
        return True
