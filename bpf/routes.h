/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The routing decision, by the compiled routes (meshd/datapath/rules/compilation.py) and a
 * request's parsed head. */
#ifndef MESHD_ROUTES_H
#define MESHD_ROUTES_H

#include "fnv.h"
#include "head_text.h"
#include "maps.h"
#include "types/arming.h"
#include "types/rules.h"
#include "types/upcall.h"
#include "words.h"

static __always_inline bool bytes_are(const __u8 *data, const __u8 *data_end, u32 start,
	const __u8 *wanted, u32 length, const u32 limit)
{
	start &= 0xfff;
	for (u32 i = 0; i < limit; i++) {
		const __u8 *at = data + start + i;

		if (i >= length)
			return true;
		if (at + 1 > data_end || *at != wanted[i])
			return false;
	}
	return true;
}

/* The same of a path, eight bytes at once: a path is followed by more than as many. */
static __always_inline bool path_is(const __u8 *data, const __u8 *data_end,
	const struct path_routes *routes, u32 start, u32 length)
{
	start &= 0xf;
	for (u32 i = 0; i < MAX_PATH_BYTES; i += 8) {
		const __u8 *at = data + start + i;
		u64 differs;

		if (i >= length)
			return true;
		if (at + 8 > data_end)
			return false;
		differs = LOAD64(at) ^ LOAD64(routes->path + i);
		if (length - i < 8)
			differs <<= 8 * (8 - (length - i));
		if (differs)
			return false;
	}
	return true;
}

static __always_inline struct path_routes *by_hash(u64 rules, u64 hash, enum path_kind kind)
{
	struct path_key key = {.rules = rules, .hash = hash, .kind = kind};

	return paths.lookup(&key);
}

/* Finds the longest path that the rules know and the request's path begins with, by its hash. The
 * result is left in head, not in registers: what follows is then one case to the verifier, not one
 * for each place where the path may have been found.
 */
static __always_inline void match_path(
	const struct rule_set *set, u64 rules, struct request_head *head)
{
	head->match_length = head->path_end - head->path_start;
	head->match_hash = head->path_hash;
	head->match_kind = PATH_EXACT;
	if (set->exact && by_hash(rules, head->path_hash, PATH_EXACT))
		return;
	head->match_kind = PATH_PREFIX;
	if (set->prefixes) {
		if (by_hash(rules, head->path_hash, PATH_PREFIX))
			return;
		for (u32 i = 0; i < MAX_PREFIX_ELEMENTS; i++) {
			u32 element = MAX_PREFIX_ELEMENTS - 1 - i;
			const struct path_element *end = &head->element[element];

			if (element >= head->elements || element >= set->prefixes)
				continue;
			head->match_length = end->end - head->path_start;
			head->match_hash = end->hash;
			if (by_hash(rules, end->hash, PATH_PREFIX))
				return;
		}
	}
	head->match_length = 0;
	head->match_hash = FNV_BASIS;
}

/* The routes of that path. The hash finds, the bytes prove: a path that was made to collide with a
 * route's gets none.
 */
static __always_inline struct path_routes *matched_routes(
	u64 rules, const struct request_head *head, const __u8 *data, const __u8 *data_end)
{
	struct path_routes *found = by_hash(rules, head->match_hash, head->match_kind);

	if (!found || found->length != head->match_length ||
		!path_is(data, data_end, found, head->path_start, head->match_length))
		return NULL;
	return found;
}

enum holds {
	HOLDS = 1,
	HOLDS_NOT = 2,
	UNDECIDED = 3, /* the proxy must test it */
};

#define ANY_VALUE 0xffffffff

static __always_inline enum holds condition_holds(const struct field_condition *condition,
	const struct request_head *head, const __u8 *data, const __u8 *data_end)
{
	const struct head_field *field =
		&head->field[condition->header & (MAX_INDEXED_HEADERS - 1)];

	if (!field->count)
		return HOLDS_NOT;
	if (field->count > 1 || condition->length == ANY_VALUE)
		return UNDECIDED;
	if (field->length != condition->length)
		return HOLDS_NOT;
	return bytes_are(data, data_end, field->start, condition->value, condition->length,
		       MAX_CONDITION_BYTES)
		       ? HOLDS
		       : HOLDS_NOT;
}

static __always_inline enum holds candidate_holds(const struct candidate *candidate,
	const struct request_head *head, const __u8 *data, const __u8 *data_end)
{
	enum holds result = HOLDS;

	if (candidate->method != METHOD_ANY && candidate->method != head->method)
		return HOLDS_NOT;
	if (candidate->query) {
		if (!head->has_query)
			return HOLDS_NOT;
		result = UNDECIDED;
	}
	for (u32 i = 0; i < MAX_CONDITIONS; i++) {
		enum holds holds;

		if (i >= candidate->conditions)
			break;
		holds = condition_holds(&candidate->condition[i], head, data, data_end);
		if (holds == HOLDS_NOT)
			return HOLDS_NOT;
		if (holds == UNDECIDED)
			result = UNDECIDED;
	}
	return result;
}

/* The first of a path's routes whose conditions hold, in head->candidate, or why the kernel cannot
 * tell.
 */
static __always_inline enum upcall find_candidate(const struct path_routes *routes,
	struct request_head *head, const __u8 *data, const __u8 *data_end)
{
	for (u32 i = 0; i < MAX_CANDIDATES; i++) {
		enum holds holds;

		if (i >= routes->candidates)
			break;
		holds = candidate_holds(&routes->candidate[i], head, data, data_end);
		if (holds == HOLDS_NOT)
			continue;
		if (holds == UNDECIDED)
			return UPCALL_CONDITION;
		head->candidate = i;
		return UPCALL_NONE;
	}
	return UPCALL_ROUTE;
}

/* The route that takes a request, in *chosen, or why the kernel cannot tell. Of a head that is
 * known, where it was found is in head.
 */
static __always_inline enum upcall route_request(const struct rule_set *set, u64 rules,
	struct request_head *head, const __u8 *data, const __u8 *data_end,
	struct candidate **chosen)
{
	struct path_routes *routes;
	struct candidate *candidate;
	enum upcall reason;

	if (!LOADED(head->known))
		match_path(set, rules, head);
	routes = matched_routes(rules, head, data, data_end);
	if (!routes)
		return UPCALL_ROUTE;
	if (!LOADED(head->known)) {
		reason = find_candidate(routes, head, data, data_end);
		if (reason)
			return reason;
	}
	candidate = &routes->candidate[MASKED(LOADED(head->candidate), MAX_CANDIDATES - 1)];
	if (candidate->action != CANDIDATE_FORWARD)
		return UPCALL_ROUTE;
	*chosen = candidate;
	return UPCALL_NONE;
}

/* A cluster of the route, each by its weight, in *chosen; 0: there is none. No pointer to the
 * share: what follows would be one case to the verifier for each.
 */
static __always_inline void pick_cluster(
	const struct candidate *candidate, struct cluster_share *chosen)
{
	u32 random = 0;

	chosen->cluster = 0;
	chosen->judged = 0;

	if (candidate->shares > 1 && candidate->total)
		random = bpf_get_prandom_u32() % candidate->total;
	for (u32 i = 0; i < MAX_ROUTE_CLUSTERS; i++) {
		if (i >= candidate->shares)
			break;
		if (random < candidate->share[i].bound) {
			chosen->cluster = candidate->share[i].cluster;
			chosen->judged = candidate->share[i].judged;
			return;
		}
	}
}

/* A connection of the flow to an endpoint of the cluster, each by its weight; NULL: it has none, or
 * the endpoint that is due is one that it has no connection to.
 */
static __always_inline struct flow_upstream *pick_upstream(struct arming *arming, u64 cluster)
{
	u32 total = 0, random = 0;

	for (u32 i = 0; i < MAX_FLOW_UPSTREAMS; i++) {
		if (i >= arming->upstreams)
			break;
		if (arming->upstream[i].cluster == cluster)
			total += arming->upstream[i].weight;
	}
	if (!total)
		return NULL;
	if (arming->upstreams > 1)
		random = bpf_get_prandom_u32() % total;
	for (u32 i = 0; i < MAX_FLOW_UPSTREAMS; i++) {
		struct flow_upstream *upstream = &arming->upstream[i];

		if (i >= arming->upstreams)
			break;
		if (upstream->cluster != cluster)
			continue;
		if (random < upstream->weight)
			return upstream->kind == UPSTREAM_MISSING ? NULL : upstream;
		random -= upstream->weight;
	}
	return NULL;
}

#endif
