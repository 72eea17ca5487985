/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where a connect(2) to a VIP goes. */
#ifndef MESHD_TYPES_SERVICE_H
#define MESHD_TYPES_SERVICE_H

enum protocol {
	PROTOCOL_HTTP = 1, /* connections go to the proxy */
	PROTOCOL_TCP = 2,  /* connections go to an endpoint that the kernel picks */
	PROTOCOL_TCP_RELAYED =
		3, /* connections go to the proxy, and no socket of theirs is enrolled */
};

enum failure_policy {
	FAILURE_POLICY_OPEN = 1,
	FAILURE_POLICY_CLOSED = 2,
};

/* One VIP and port. The endpoints of its address family are the slots [first_slot, first_slot +
 * slots) of the generation named here; a change writes a new generation's slots before it shows
 * them here.
 */
struct service {
	__u32 id;
	__u32 generation;
	__u32 first_slot;
	__u32 slots;
	enum protocol protocol;
	enum failure_policy failure_policy;
	__u64 rules;  /* names its compiled routes for all callers, see struct rule_set; 0: it has
			 none, the fast path is off for it */
	__u64 used;   /* CLOCK_MONOTONIC in ns of the last connect to it; 0: none since this was
			 written */
	__u32 joined; /* 1: of opaque TCP: connections to it are joined, see bpf/joined.h */
	__u32 zero;
};

struct endpoint_key {
	__u32 service;
	__u32 generation;
	__u32 slot;
};

#endif
