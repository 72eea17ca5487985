/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Endpoints that are ejected by their answers. */
#ifndef MESHD_TYPES_JUDGED_H
#define MESHD_TYPES_JUDGED_H

#include "types/address.h"

/* An endpoint of a cluster that ejects endpoints by their answers. */
struct judged_endpoint {
	__u64 cluster; /* meshd.datapath.rules.fingerprint.cluster_id of its name */
	struct address_port address;
	__u32 zero;
};

/* Answers of less than 500 that the kernel carried from it. */
struct good_answers {
	__u64 count;
	__u64 nanoseconds; /* from the requests to the answers' heads, together */
};

/* One of 500 or more: what the agent is told. */
struct bad_answer {
	struct judged_endpoint from;
	__u64 good; /* good_answers.count before it */
	__u64 nanoseconds;
	__u32 status;
	__u32 zero;
};

#endif
