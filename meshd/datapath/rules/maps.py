"""The maps by which the kernel carries requests: rule_sets and paths."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Mapping

from meshd import log
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.rules.compilation import CompiledRules, compile_rules
from meshd.datapath.rules.fingerprint import Fingerprints, Variant
from meshd.datapath.rules.values import RuleValues
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
        self._no_room: set[Variant] = set()
        self._written: set[int] = set()
        """In force, and known to be whole."""
        self._retired: set[int] = set()
        self._installed = self._read()

    def prepare(self, new: Snapshot) -> Mapping[str, int]:
        """Write what the maps lack of a snapshot. The rules that each listener's services are to show.

        0 for a listener whose requests are all the proxy's: ``rules_of`` says why. Cold ones are left out.
        Raises OSError.
        """
        changed = dict(self._fingerprints.update(new))
        variants = set(self._fingerprints)
        self._no_room &= variants
        changed |= {key: new.listeners[key[0]].seen_from(key[1]) for key in self._no_room - changed.keys()}
        for variant in self._compiled.keys() - variants:
            del self._compiled[variant]
        wanted = {self._fingerprints[variant] for variant in variants}
        for fingerprint in self._retired - wanted:
            self._remove(fingerprint)
        self._retired.clear()
        for variant, listener in changed.items():
            self._compiled[variant] = compile_rules(
                listener,
                new.route_configs.get(listener.route_config),
                new.clusters,
                self._values.limits,
            )
            if isinstance(self._compiled[variant], str):
                self._no_room.discard(variant)
        for variant, compiled in self._compiled.items():
            fingerprint = self._fingerprints[variant]
            if isinstance(compiled, CompiledRules) and fingerprint not in self._written:
                if full := self._write(fingerprint, compiled):
                    self._compiled[variant] = self._refused(variant, full)
                else:
                    self._no_room.discard(variant)
        return {name: self._shown((name, "")) for name, namespace in variants if not namespace}

    def retire(self) -> None:
        """Every service shows what ``prepare`` has last returned: no others are in force when this returns.

        Raises OSError.
        """
        self._retired = self._installed.keys() - {self._shown(variant) for variant in self._compiled}
        for fingerprint in self._retired:
            self._rule_sets.discard(self._values.set_key(fingerprint))
        self._written -= self._retired

    def rules_of(self, listener: str, namespace: str = "") -> CompiledRules | str:
        """A listener's rules, or why it has none. ``namespace``: one of its caller_namespaces."""
        return self._compiled.get((listener, namespace), "it is not in force")

    def _shown(self, variant: Variant) -> int:
        return 0 if isinstance(self._compiled[variant], str) else self._fingerprints[variant]

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
