/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opaque connections that are joined. */
#ifndef MESHD_TYPES_JOINED_H
#define MESHD_TYPES_JOINED_H

#include "types/address.h"

/* One end of an opaque TCP connection between two workloads of this node. Each field has one
 * writer: that end's own programs. Counts are mod 2^32.
 */
struct joined_end {
	__u64 netns;
	__u32 first_sent;     /* sequence number of the first byte that it sends */
	__u32 first_received; /* and of the first one that it gets */
	__u32 read; /* and of the next byte that its app reads of what came by TCP, when it last
		       sent */
	__u32 redirecting; /* 1: what it sends goes into the other end's queue */
	__u32 redirected;  /* bytes that have gone there; messages count as more */
	__u32 emptied;	   /* the other end's redirected when this one was last seen to have read
			      all of them */
};

#endif
