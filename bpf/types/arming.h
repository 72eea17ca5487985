/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the proxy decided for a flow. */
#ifndef MESHD_TYPES_ARMING_H
#define MESHD_TYPES_ARMING_H

#include "consts.h"
#include "types/address.h"

enum upstream_kind {
	UPSTREAM_HERE = 1,   /* redirect to S */
	UPSTREAM_REMOTE = 2, /* redirect to U */
	UPSTREAM_MISSING =
		3, /* endpoints that the flow has no connection to yet: an upcall opens one */
};

/* What a flow may use for a cluster, picked at random by weight. */
struct flow_upstream {
	struct connection_key connection;
	__u64 cluster; /* meshd.datapath.rules.fingerprint.cluster_id of its name */
	__u32 weight;
	__u32 written;	/* bytes that the proxy has sent on it, mod 2^32 */
	__u32 consumed; /* of a connection to another node: how many of its passed it has consumed
			 */
	enum upstream_kind kind;
};

enum arming_flag {
	ARMED_REQUEST_ID = 1,	   /* add x-request-id to a request that has none */
	ARMED_FORWARDED_PROTO = 2, /* add x-forwarded-proto to a request that has none */
};

/* What the proxy has decided for a flow. Written by the proxy alone, as a whole. The kernel carries
 * the next request only while client and proxy have each consumed all of the other's bytes and the
 * service's rules are these.
 */
struct arming {
	__u64 rules;	/* 0: it carries nothing */
	__u32 consumed; /* bytes that the proxy has consumed of the client's, mod 2^32 */
	__u32 written;	/* bytes that it has sent to the client, mod 2^32 */
	__u32 adopted;	/* carried requests that are the proxy's, to answer and to count */
	enum arming_flag flags;
	__u32 upstreams;
	__u32 forwarded_for_length;
	__u8 forwarded_for[MAX_FORWARDED_FOR_BYTES]; /* the line to add to each request, turned: see
							request_lines.h */
	struct flow_upstream upstream[MAX_FLOW_UPSTREAMS];
};

#endif
