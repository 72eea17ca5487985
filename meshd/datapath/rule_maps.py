"""The maps by which the kernel carries requests: rule_sets and paths."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Mapping

from meshd import log
from meshd.datapath.bpf_map import Map
from meshd.datapath.fingerprint import Fingerprints
from meshd.datapath.layout import Layout
from meshd.datapath.rule_values import RuleValues
from meshd.datapath.rules import CompiledRules, compile_rules
from meshd.model.snapshot import Snapshot

_logger = logging.getLogger("meshd.datapath.rules")

_SIZES = {"rule_sets": "MESHD_MAX_SERVICES", "paths": "MESHD_MAX_PATHS"}


class RuleMaps:
    """Keeps the rules of a snapshot's listeners in the maps. The maps are the caller's to close.

    Rules are named by their fingerprint, and rules of one name do not change. New ones are written before a
    service shows them (``prepare``). Old ones are removed some time after none shows them any more: at the
    next change, as a program may still be at work with them.
    """

    def __init__(self, rule_sets: Map, paths: Map, layout: Layout) -> None:
        """Raises OSError, KeyError (a layout of other programs)."""
        self._rule_sets = rule_sets
        self._paths = paths
        self._values = RuleValues(layout)
        self._fingerprints = Fingerprints()
        self._compiled: dict[str, CompiledRules | str] = {}
        self._no_room: set[str] = set()
        self._written: set[int] = set()
        self._retired: set[int] = set()
        self._installed = self._read()

    def prepare(self, new: Snapshot) -> Mapping[str, int]:
        """Write what the maps lack of a snapshot. The rules that each listener's services are to show.

        0 for a listener whose requests are all the proxy's: ``rules_of`` says why. Raises OSError.
        """
        changed = self._fingerprints.update(new) | (self._no_room & new.listeners.keys())
        for name in self._compiled.keys() - new.listeners.keys():
            del self._compiled[name]
        self._no_room &= new.listeners.keys()
        wanted = {self._fingerprints[name] for name in new.listeners}
        for fingerprint in self._retired - wanted:
            self._remove(fingerprint)
        self._retired.clear()
        for name in changed:
            listener = new.listeners[name]
            self._compiled[name] = compile_rules(
                listener,
                new.route_configs.get(listener.route_config),
                new.clusters,
                self._values.limits,
            )
            if isinstance(self._compiled[name], str):
                self._no_room.discard(name)
        for name, compiled in self._compiled.items():
            fingerprint = self._fingerprints[name]
            if isinstance(compiled, CompiledRules) and fingerprint not in self._written:
                full = self._write(fingerprint, compiled)
                if full:
                    self._compiled[name] = self._refused(name, full)
                else:
                    self._no_room.discard(name)
        return {name: self._shown(name) for name in new.listeners}

    def retire(self) -> None:
        """Every service shows what ``prepare`` has last returned: other rules may go."""
        self._retired = self._installed.keys() - {self._shown(name) for name in self._compiled}

    def rules_of(self, listener: str) -> CompiledRules | str:
        """A listener's rules, or why it has none."""
        return self._compiled.get(listener, "it is not in force")

    def _shown(self, name: str) -> int:
        return 0 if isinstance(self._compiled[name], str) else self._fingerprints[name]

    def _refused(self, name: str, full: Map) -> str:
        reason = f"the {full.name} map is full"
        if name not in self._no_room:
            self._no_room.add(name)
            log.event(
                _logger,
                logging.WARNING,
                "no room for a service's rules: its requests take the slow path",
                listener=name,
                map=full.name,
                entries=full.max_entries,
                remedy=f"raise {_SIZES[full.name]} in bpf/consts.h",
            )
        return reason

    def _write(self, fingerprint: int, rules: CompiledRules) -> Map | None:
        """Write rules, or nothing: then the map that has no room for them. Raises OSError."""
        left = set(self._installed.get(fingerprint, ()))
        keys = self._installed[fingerprint] = []
        into = self._paths
        try:
            for key, value in self._values.path_entries(fingerprint, rules):
                self._paths[key] = value
                keys.append(key)
            into = self._rule_sets
            self._rule_sets[self._values.set_key(fingerprint)] = self._values.set_value(rules)
        except OSError as error:
            keys += left.difference(keys)
            if error.errno != errno.E2BIG:
                raise
            self._remove(fingerprint)
            return into
        for key in left.difference(keys):
            self._paths.discard(key)
        self._written.add(fingerprint)
        return None

    def _remove(self, fingerprint: int) -> None:
        self._rule_sets.discard(self._values.set_key(fingerprint))
        for key in self._installed.get(fingerprint, ()):
            self._paths.discard(key)
        self._installed.pop(fingerprint, None)
        self._written.discard(fingerprint)

    def _read(self) -> dict[int, list[bytes]]:
        """The keys of paths by fingerprint, as an earlier agent left them."""
        found: dict[int, list[bytes]] = defaultdict(list)
        for key in self._rule_sets:
            found[self._values.fingerprint(key)] = []
        for key in self._paths:
            found[self._values.path_fingerprint(key)].append(key)
        return dict(found)
