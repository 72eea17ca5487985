/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A captured connection. */
#ifndef MESHD_TYPES_FLOW_H
#define MESHD_TYPES_FLOW_H

#include "consts.h"
#include "types/address.h"
#include "types/head.h"
#include "types/upcall.h"

/* The same as a flow's key, and which piece of its request. */
struct kept_key {
	__u64 netns;
	struct address_port client;
	__u32 piece; /* not 0: the first one is in the flow's record */
};

/* Bytes of a request as its client sent them. */
struct kept_piece {
	__u64 word[KEPT_PIECE_BYTES / 8];
};

/* A captured connection. Counts of bytes and requests wrap at 2^32.
 *
 * The fields are in order of who writes them, as a connection's are: with its key and what the
 * kernel puts before it, 88 bytes, the first group fills the second cache line.
 */
struct flow {
	struct address_port destination; /* that the client asked for */
	__u32 first_sent;		 /* sequence number of the client's first byte */
	__u32 first_received;		 /* and of the first byte to it */
	__u32 pipelines; /* 1: the client has sent a request before it had the last one's answer */
	__u64 opened;	 /* CLOCK_MONOTONIC in ns, when the client's handshake was done */

	/* By the client's program. The server's reads those up to the head's method. */
	struct connection_key connection; /* that carries the request */
	__u64 rules;			  /* it was decided by */
	__u64 cluster;			  /* it went to */
	__u64 began;	     /* CLOCK_MONOTONIC in ns, of the request carried now or last */
	__u32 route;	     /* it took: index among the rules' routes */
	__u32 requests;	     /* that the kernel has carried */
	__u64 request_left;  /* bytes of the request's body still to carry */
	__u32 given_up;	     /* 1: they are the proxy's, for the server has gone */
	__u32 kept;	     /* first bytes of the request, all that went out; 0: not kept */
	__u32 remote;	     /* 1: its server is on another node */
	__u32 divided;	     /* 1: the next bytes are the rest of a message redirected in part */
	__u32 upcalls;	     /* messages passed up to the proxy */
	enum upcall reason;  /* of the last one, but for UPCALL_SLOW: a request's later messages */
	__u32 request_id[4]; /* that it was given, as a UUID's 128 bits; zeros: none */
	struct request_head head;
	struct kept_piece first_piece; /* of what is kept */

	/* By the server's program; the last two seldom. */
	__u32 responses;  /* requests whose answer it has carried to its end */
	__u32 begun;	  /* whose answer's first byte it has carried */
	__u32 redirected; /* as a connection's, to the client */
	__u32 ended;	  /* 1: the client has said that it sends nothing more */
	__u32 spliced;	  /* 1: for good, with the connection above */
};

#endif
