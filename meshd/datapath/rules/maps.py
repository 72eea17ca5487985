"""The maps by which the kernel carries requests: rule_sets and paths."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict

from meshd import log
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.rules.compilation import CompiledRules, compile_rules
from meshd.datapath.rules.fingerprint import Fingerprints, Variant
from meshd.datapath.rules.values import RuleValues
from meshd.model.listeners import Listener
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Snapshot

_logger = logging.getLogger("meshd.datapath.rules.compilation")

_SIZES = {"rule_sets": "MESHD_MAX_SERVICES", "paths": "MESHD_MAX_PATHS"}


class RuleMaps:
    """Keeps the rules of a snapshot's listeners in the maps. The maps are the caller's to close.

    Rules are named by their fingerprint, and rules of one name do not change. They are in force while they
    are in ``rule_sets``: new ones from ``prepare`` on, old ones until ``retire``. In between, the workers
    know the new ones, and flows that they have not armed anew are carried by the old. The paths of old ones
    go with the next change, as a program may still be at work with them.
    """

    def __init__(self, rule_sets: Map, paths: Map, layout: Layout) -> None:
        """Raises OSError, KeyError (a layout of other programs)."""
        self._rule_sets = rule_sets
        self._paths = paths
        self._values = RuleValues(layout)
        self._fingerprints = Fingerprints()
        self._compiled: dict[Variant, CompiledRules | str] = {}
        self._named: dict[Variant, int] = {}
        """The fingerprint of each."""
        self._users: dict[int, set[Variant]] = defaultdict(set)
        """Whose fingerprint it is."""
        self._shown: SharedMap[str, int] = SharedMap()
        self._no_room: set[Variant] = set()
        self._unsettled: set[Variant] = set()
        """Those of which ``_shown`` may not say what is to be."""
        self._written: set[int] = set()
        """In force, and known to be whole."""
        self._retired: set[int] = set()
        self._installed = self._read()
        self._leaving = set(self._installed)
        """Those among which are all that are installed and nobody's."""

    def prepare(self, new: Snapshot) -> SharedMap[str, int]:
        """Write what the maps lack of a snapshot. The rules that services are to show, by their listener.

        None for a listener whose requests are all the proxy's: ``rules_of`` says why; nor for a cold one.
        Raises OSError.
        """
        changed = self._fingerprints.update(new)
        self._unsettled.update(changed)
        for variant, seen in changed.items():
            self._forget(variant)
            if seen is None:
                self._no_room.discard(variant)
        again = {key: new.listeners[key[0]].seen_from(key[1]) for key in self._no_room}
        for variant, listener in {**again, **changed}.items():
            if listener is not None:
                self._compile(variant, listener, new)
        for fingerprint in self._retired - self._users.keys():
            self._remove(fingerprint)
        self._retired.clear()
        for variant in sorted(self._unsettled):
            self._settle(variant)
        names = {name for name, namespace in self._unsettled if not namespace}
        shown = {name: self._named[name, ""] for name in names if self._is_carried((name, ""))}
        self._shown = self._shown.changed(shown, names - shown.keys())
        self._unsettled.clear()
        return self._shown

    def _forget(self, variant: Variant) -> None:
        """Its rules are others now, or none."""
        self._compiled.pop(variant, None)
        fingerprint = self._named.pop(variant, None)
        if fingerprint is not None:
            self._leaving.add(fingerprint)
            self._users[fingerprint].discard(variant)
            if not self._users[fingerprint]:
                del self._users[fingerprint]

    def _compile(self, variant: Variant, listener: Listener, new: Snapshot) -> None:
        fingerprint = self._named[variant] = self._fingerprints[variant]
        self._users[fingerprint].add(variant)
        self._compiled[variant] = compile_rules(
            listener, new.route_configs.get(listener.route_config), new.clusters, self._values.limits
        )
        self._unsettled.add(variant)

    def _settle(self, variant: Variant) -> None:
        """Have its rules in the maps, if there is room. Raises OSError."""
        compiled, full = self._compiled.get(variant), None
        if isinstance(compiled, CompiledRules) and self._named[variant] not in self._written:
            full = self._write(self._named[variant], compiled)
        if full is not None:
            self._compiled[variant] = self._refused(variant, full)
        else:
            self._no_room.discard(variant)

    def retire(self) -> None:
        """Every service shows what ``prepare`` has last returned: no others are in force when this returns.

        Raises OSError.
        """
        gone = {each for each in self._leaving if not any(map(self._is_carried, self._users.get(each, ())))}
        self._retired = gone & self._installed.keys()
        for fingerprint in self._retired:
            self._rule_sets.discard(self._values.set_key(fingerprint))
        self._written -= self._retired
        self._leaving.clear()

    def rules_of(self, listener: str, namespace: str = "") -> CompiledRules | str:
        """A listener's rules, or why it has none. ``namespace``: one of its caller_namespaces."""
        return self._compiled.get((listener, namespace), "it is not in force")

    def _is_carried(self, variant: Variant) -> bool:
        return isinstance(self._compiled.get(variant), CompiledRules)

    def _refused(self, variant: Variant, full: Map) -> str:
        reason = f"the {full.name} map is full"
        if variant not in self._no_room:
            self._no_room.add(variant)
            log.event(
                _logger,
                logging.WARNING,
                "no room for a service's rules: its requests take the slow path",
                listener=variant[0],
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
