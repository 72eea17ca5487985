"""The kernel's code (bpf/routes.h and the parser), run here: it decides by the maps what the model says."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from meshd.datapath.datapath import Datapath
from meshd.datapath.loading.layout import Layout
from meshd.datapath.rules.compilation import CompiledRules, Share, compile_rules
from meshd.datapath.rules.decision import Carried, Upcall, decide
from meshd.datapath.rules.values import RuleValues
from meshd.model.routes import RouteConfig
from tests.datapath.native import build
from tests.support.route_configs import CLUSTERS, LISTENER, Request, configs, requests

SOURCE = """
#include <string.h>

static inline __u64 load64(const void *at)
{
	__u64 word;

	memcpy(&word, at, sizeof(word));
	return word;
}
#define LOAD64(at) load64(at)

/* The map paths, as the programs see it. */
#define MESHD_MAPS_H
#include "types/rules.h"

static struct {
	struct path_key key;
	struct path_routes routes;
} entry[256];
static u32 entries;

static struct path_routes *find(struct path_key *key)
{
	for (u32 i = 0; i < entries; i++)
		if (!memcmp(&entry[i].key, key, sizeof(*key)))
			return &entry[i].routes;
	return NULL;
}

static struct {
	struct path_routes *(*lookup)(struct path_key *);
} paths = {find};

static u32 bpf_get_prandom_u32(void)
{
	return 0;
}

#include "request_head.h"
#include "routes.h"

void clear(void)
{
	entries = 0;
}

void add(const struct path_key *key, const struct path_routes *routes)
{
	entry[entries].key = *key;
	entry[entries++].routes = *routes;
}

int parse_and_route(const struct rule_set *set, u64 rules, const u8 *data, u32 size,
	struct candidate *chosen)
{
	static struct request_head head;
	struct candidate *found = NULL;
	enum upcall reason;

	reason = parse_request(data, data + size, &head, set);
	if (reason)
		return -(int)reason;
	reason = route_request(set, rules, &head, data, data + size, &found);
	if (found)
		*chosen = *found;
	return reason;
}
"""
RULES = 7

Routing = Callable[[CompiledRules, bytes], Carried | str]


@pytest.fixture(scope="module")
def routing(datapath: Datapath, tmp_path_factory: pytest.TempPathFactory) -> Routing:
    """What the kernel makes of a request's head: a route, or the upcall's name, or "-" and its name.

    The latter is of the parser, which the model is not about.
    """
    native = build(SOURCE, tmp_path_factory.mktemp("native"))
    native.parse_and_route.argtypes = (
        *(ctypes.c_char_p, ctypes.c_ulonglong, ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p),
    )
    layout = datapath.layout
    values = RuleValues(layout)
    names = {value: name.removeprefix("UPCALL_").lower() for name, value in layout.enums["upcall"].items()}
    chosen = ctypes.create_string_buffer(layout.structs["candidate"].size)

    def route(rules: CompiledRules, head: bytes) -> Carried | str:
        native.clear()
        for key, value in values.path_entries(RULES, rules):
            native.add(key, value)
        reason = native.parse_and_route(values.set_value(rules), RULES, head, len(head), chosen)
        if reason:
            return names[reason] if reason > 0 else "-" + names[-reason]
        return _carried(layout, chosen.raw)

    return route


def _carried(layout: Layout, candidate: bytes) -> Carried:
    route, count = layout.codec("candidate", "route", "shares").unpack(candidate)
    fields = ("cluster", "bound", "judged")
    shares = [
        layout.codec("candidate", *(f"share[{i}].{name}" for name in fields)).unpack(candidate)
        for i in range(count)
    ]
    return Carried(route, tuple(Share(*share) for share in shares))


def _head(request: Request) -> bytes:
    method, path, query, headers = request
    lines = [f"{method} {path}{'' if query is None else '?' + query} HTTP/1.1", "Host: web"]
    lines += [f"{name.upper() if i % 2 else name}: {value}" for i, (name, value) in enumerate(headers)]
    return "\r\n".join((*lines, "", "")).encode()


@settings(max_examples=300)
@given(config=configs, several=st.lists(requests, min_size=1, max_size=8))
def test_the_programs_decide_as_the_model(
    routing: Routing, config: RouteConfig, several: list[Request]
) -> None:
    rules = compile_rules(LISTENER, config, CLUSTERS)
    assert isinstance(rules, CompiledRules)
    for request in several:
        method, path, query, headers = request
        found = routing(rules, _head(request))
        model = decide(rules, method, path, query is not None, headers)
        if isinstance(found, str) and found[0] == "-":
            names = [name for name, _ in headers]
            unread = method == "PURGE" or "te" in names or names.count("content-type") > 1
            assert unread, f"the parser does not take {request}: {found}"
            event("not read")
            continue
        event("carried" if isinstance(found, Carried) else found)
        assert found == (model.reason.value if isinstance(model, Upcall) else model)
