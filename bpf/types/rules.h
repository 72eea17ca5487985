/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The compiled routes of a service. */
#ifndef MESHD_TYPES_RULES_H
#define MESHD_TYPES_RULES_H

#include "consts.h"
#include "types/head.h"

/* A service's compiled routes, by their fingerprint: two sets of rules that differ in anything
 * (routes, clusters, endpoints, options) have different ones, on all nodes and in all processes.
 */
struct rule_set {
	__u32 exact;	 /* 1: some route names an exact path */
	__u32 prefixes;	 /* most elements of a path prefix other than "/"; 0: there is none */
	__u32 headers;	 /* indexed names */
	__u32 log_below; /* draws (of 2^32) by which a request is logged; ALL_DRAWS */
	__u32 header_length[MAX_INDEXED_HEADERS];
	__u8 header[MAX_INDEXED_HEADERS][MAX_HEADER_NAME_BYTES]; /* in lower case */
};

struct path_key {
	__u64 rules;
	__u64 hash;
	enum path_kind kind;
	__u32 zero;
};

/* A condition on an indexed field: its only value is exactly this one. */
struct field_condition {
	__u32 header; /* index in the rule set */
	__u32 length; /* 0xffffffff: whoever has the field is the proxy's to judge */
	__u8 value[MAX_CONDITION_BYTES];
};

enum candidate_action {
	CANDIDATE_FORWARD = 1,
	CANDIDATE_UPCALL = 2,
};

/* A share of a route's requests: [bound of the one before, bound). */
struct cluster_share {
	__u64 cluster;
	__u32 bound;
	__u32 judged; /* 1: the cluster ejects endpoints by their answers */
};

/* One route. The first whose conditions hold takes the request. */
struct candidate {
	__u32 route; /* index among the rules' routes */
	enum method method;
	enum candidate_action action;
	__u32 query; /* 1: it asks for query parameters: a request that has a query is an upcall */
	__u32 conditions;
	__u32 shares;
	__u32 total; /* the last share's bound */
	__u32 zero;
	struct field_condition condition[MAX_CONDITIONS];
	struct cluster_share share[MAX_ROUTE_CLUSTERS];
};

/* All routes that may take a request whose longest match is this path, those of shorter prefixes
 * included. After the last: none takes it, which is the proxy's to say.
 */
struct path_routes {
	__u32 length;
	__u32 candidates;
	__u8 path[MAX_PATH_BYTES];
	struct candidate candidate[MAX_CANDIDATES];
};

#endif
