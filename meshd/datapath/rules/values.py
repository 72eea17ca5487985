"""Compiled rules as keys and values of the maps rule_sets and paths. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from meshd.datapath.loading.layout import Layout, StructLayout
from meshd.datapath.rules.compilation import METHODS, Candidate, CompiledRules, FieldCondition, Limits
from meshd.datapath.rules.fingerprint import fnv1a
from meshd.datapath.rules.paths import PathKey
from meshd.model.request_policies import MILLION

_FINGERPRINT = struct.Struct("=Q")
_ANY_VALUE = 0xFFFF_FFFF
_ALL_DRAWS = 0xFFFF_FFFF


class RuleValues:
    """Packs struct rule_set and struct path_routes. ``limits``: what they have room for."""

    def __init__(self, layout: Layout) -> None:
        """Raises KeyError (a layout of other programs)."""
        self.limits = _limits(layout)
        self._set = layout.codec(
            "rule_set", "exact", "prefixes", "headers", "log_below", "header_length", "header"
        ).pack
        self._key = layout.codec("path_key", "rules", "hash", "kind")
        kinds = layout.enums["path_kind"]
        self._kinds = {True: kinds["PATH_EXACT"], False: kinds["PATH_PREFIX"]}
        methods, actions = layout.enums["method"], layout.enums["candidate_action"]
        self._methods = {name: methods["METHOD_" + name] for name in METHODS}
        self._methods[""] = methods["METHOD_ANY"]
        self._actions = {True: actions["CANDIDATE_FORWARD"], False: actions["CANDIDATE_UPCALL"]}
        self._routes = _Parts(layout, "path_routes", ("length", "candidates", "path"), candidate="candidate")
        self._candidate = _Parts(
            layout,
            "candidate",
            ("route", "method", "action", "query", "conditions", "shares", "total"),
            condition="field_condition",
            share="cluster_share",
        )
        self._condition = layout.codec("field_condition", "header", "length", "value").pack
        self._share = layout.codec("cluster_share", "cluster", "bound", "judged").pack

    def set_key(self, fingerprint: int) -> bytes:
        """Of rule_sets."""
        return _FINGERPRINT.pack(fingerprint)

    def fingerprint(self, set_key: bytes) -> int:
        """That ``set_key`` is of."""
        return int(_FINGERPRINT.unpack(set_key)[0])

    def path_fingerprint(self, path_key: bytes) -> int:
        """The fingerprint of the rules that a key of paths belongs to."""
        return int(self._key.unpack(path_key)[0])

    def set_value(self, rules: CompiledRules) -> bytes:
        """Of rule_sets."""
        limits = self.limits
        lengths = [len(name) for name in rules.headers]
        lengths += [0] * (limits.headers - len(lengths))
        names = b"".join(name.encode().ljust(limits.header_name_bytes, b"\0") for name in rules.headers)
        return self._set(
            rules.exact,
            rules.prefixes,
            len(rules.headers),
            _log_below(rules.access_log_share),
            struct.pack(f"={limits.headers}I", *lengths),
            names,
        )

    def path_entries(self, fingerprint: int, rules: CompiledRules) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of paths, in the order in which they may be removed.

        Shorter paths first: the kernel looks for the longest one first. So who misses one that was removed
        finds none that is shorter either, and gives the request to the proxy.
        """
        for key in sorted(rules.paths, key=lambda each: (each.exact, len(each.path))):
            packed = self._key.pack(fingerprint, fnv1a(key.path), self._kinds[key.exact])
            yield packed, self._path_routes(key, rules.paths[key])

    def _path_routes(self, key: PathKey, candidates: tuple[Candidate, ...]) -> bytes:
        return self._routes.pack(
            (len(key.path), len(candidates), key.path),
            candidate=[self._packed(candidate) for candidate in candidates],
        )

    def _packed(self, candidate: Candidate) -> bytes:
        return self._candidate.pack(
            (
                candidate.route,
                self._methods[candidate.method],
                self._actions[bool(candidate.shares)],
                candidate.query,
                len(candidate.conditions),
                len(candidate.shares),
                candidate.shares[-1].bound if candidate.shares else 0,
            ),
            condition=[self._packed_condition(condition) for condition in candidate.conditions],
            share=[self._share(*share) for share in candidate.shares],
        )

    def _packed_condition(self, condition: FieldCondition) -> bytes:
        if condition.value is None:
            return self._condition(condition.header, _ANY_VALUE, b"")
        return self._condition(condition.header, len(condition.value), condition.value)


def _log_below(share: int) -> int:
    return _ALL_DRAWS if share >= MILLION else (share << 32) // MILLION


class _Parts:
    """Packs a struct that ends in arrays of structs."""

    def __init__(self, layout: Layout, name: str, fields: tuple[str, ...], **arrays: str) -> None:
        """``arrays``: the element's struct by the array's name, in the order in which they lie."""
        shape = layout.structs[name]
        self._head = shape.codec(*fields).pack
        self._size = shape.size
        self._arrays = {
            array: (_offset(shape, f"{array}[0]."), layout.structs[element].size)
            for array, element in arrays.items()
        }

    def pack(self, fields: tuple[int | bytes, ...], **elements: list[bytes]) -> bytes:
        packed = self._head(*fields)
        for array, (offset, size) in self._arrays.items():
            found = b"".join(elements[array])
            assert len(found) == size * len(elements[array])
            packed = packed[:offset] + found + packed[offset + len(found) :]
        assert len(packed) == self._size, "there are more elements than the array has room for"
        return packed


def _offset(shape: StructLayout, prefix: str) -> int:
    return min(field.offset for field in shape.fields if field.name.startswith(prefix))


def _limits(layout: Layout) -> Limits:
    routes, candidate = layout.structs["path_routes"], layout.structs["candidate"]
    names = layout.structs["rule_set"]
    headers = _bytes(names, "header_length") // 4
    return Limits(
        path_bytes=_bytes(routes, "path"),
        prefix_elements=_count(layout.structs["flow"], "head.element[", "].hash"),
        candidates=_count(routes, "candidate[", "].route"),
        route_clusters=_count(candidate, "share[", "].bound"),
        conditions=_count(candidate, "condition[", "].length"),
        condition_bytes=_bytes(layout.structs["field_condition"], "value"),
        headers=headers,
        header_name_bytes=_bytes(names, "header") // headers,
    )


def _bytes(shape: StructLayout, name: str) -> int:
    return next(struct.calcsize("=" + field.format) for field in shape.fields if field.name == name)


def _count(shape: StructLayout, prefix: str, suffix: str) -> int:
    return sum(field.name.startswith(prefix) and field.name.endswith(suffix) for field in shape.fields)
