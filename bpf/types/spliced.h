/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_TYPES_SPLICED_H
#define MESHD_TYPES_SPLICED_H

#include "types/flow.h"
#include "types/frames.h"

/* What the proxy has decided for a spliced connection and has done on it. Written by the proxy
 * alone, as a whole. Counts are of bytes that went by TCP, mod 2^32.
 */
struct spliced_arming {
	struct flow_key flow;
	__u32 leaving;	   /* 1: the kernel is to redirect nothing more */
	__u32 from_client; /* that the proxy has read */
	__u32 to_server;   /* and sent on, or is about to */
	__u32 from_server;
	__u32 to_client;
	__u32 zero;
	struct frames up; /* where the proxy is in what it has read from the client */
	struct frames down;
};

/* What one end sends of a spliced connection. Each has one writer: that end's own program. */
struct spliced_way {
	__u64 bytes;	      /* that were redirected, in all */
	struct frames frames; /* where these end */
	__u32 redirecting;    /* 1: what it sends goes into the other end's queue */
	__u32 redirected;     /* as a joined end's; likewise emptied */
	__u32 emptied;
	__u32 received; /* bytes that this end had got by TCP when it last sent, mod 2^32 */
	__u32 unread;	/* 1: it had not read all of them by then */
	__u32 at;	/* of a message; means nothing outside of a call */
	__u32 since;	/* what the proxy had read when redirecting last began */
};

/* What the kernel does on a spliced connection. Made by the proxy. */
struct spliced {
	struct spliced_way up; /* from the client */
	struct spliced_way down;
};

#endif
