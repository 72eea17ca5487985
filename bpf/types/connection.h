/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* An upstream connection. */
#ifndef MESHD_TYPES_CONNECTION_H
#define MESHD_TYPES_CONNECTION_H

#include "types/address.h"
#include "types/head.h"

enum place {
	PLACE_ELSEWHERE = 0, /* the server's socket has not been seen on this node */
	PLACE_HERE = 1,	     /* it is in the servers map */
	PLACE_GONE = 2,	     /* the connection is being closed, by either end */
};

/* What has come of the answer to the request that the kernel carries on a connection, and who has
 * the next byte of it.
 */
enum response_state {
	RESPONSE_NONE = 0,	 /* no request is carried */
	RESPONSE_HEAD = 1,	 /* the kernel: the head's first byte */
	RESPONSE_BODY = 2,	 /* the kernel: one of the response_left bytes to come */
	RESPONSE_CHUNK_LINE = 3, /* the kernel: the first byte of a chunk's size */
	RESPONSE_CHUNK_DATA = 4, /* the kernel: one of response_left bytes of a chunk */
	RESPONSE_CHUNK_END = 5,	 /* the kernel: the line end after a chunk's data */
	RESPONSE_UPCALLED = 6,	 /* the proxy: the head's first byte */
	RESPONSE_SPILLED = 7,	 /* the proxy: the first byte of a chunk's size */
	RESPONSE_BROKEN = 8,	 /* nobody: it is not framed as it said; the proxy cuts it off */
};

/* One direction's bytes are counted by TCP's own sequence numbers, from that of the first byte.
 *
 * The programs of client and server run on two CPUs, and a cache line that both write goes to and
 * fro between them. So what they share is in one line, and no look-up reads that one: with its key
 * and what the kernel puts before it, 96 bytes, the flow fills the second line.
 */
struct connection {
	struct flow_key flow; /* whose request it carries, or carried last */
	enum place place;
	enum response_state response;
	__u32 received;	  /* bytes that S had got from U when it last sent, mod 2^32 */
	__u32 unread;	  /* 1: it had not read all of them by then */
	__u32 redirected; /* bytes to S since it was known to have read all; messages count as more
			   */
	__u32 judged;	  /* 1: that request's cluster ejects endpoints by their answers */
	__u32 passed;	  /* bytes from another node that went to the proxy, mod 2^32 */
	__u32 divided;	  /* as a flow's, of the server's messages */
	__u64 response_left;
	__u64 carried;	 /* bytes of that answer that went to the client */
	__u64 last_used; /* CLOCK_MONOTONIC in ns: end of the last answer that the kernel carried */
	__u32 first_to_server;	 /* sequence number of the first byte from U to S */
	__u32 first_from_server; /* and from S to U */
	struct response_head head;
};

#endif
