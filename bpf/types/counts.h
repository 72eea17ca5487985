/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is counted. */
#ifndef MESHD_TYPES_COUNTS_H
#define MESHD_TYPES_COUNTS_H

#include "consts.h"
#include "types/head.h"

/* Requests that ended alike. */
struct request_row {
	__u64 rules;
	__u64 netns; /* the caller's cookie */
	__u64 cluster;
	__u32 route;
	enum method method;
	__u32 status;
	__u32 cancelled; /* 1: the client went before it had the whole answer */
};

struct request_count {
	__u64 count;
	__u64 nanoseconds;
	__u64 bucket[LATENCY_BUCKETS]; /* not cumulative */
};

/* Counters since load. The names are those that user space shows. */
struct stats {
	__u64 captured;	     /* connects sent to the proxy */
	__u64 balanced;	     /* connects of opaque TCP services sent to an endpoint */
	__u64 joined;	     /* of the connections made so, those that were joined */
	__u64 ends_opened;   /* ends of connections that were or could have been joined */
	__u64 ends_closed;   /* of those, the ones that have ended */
	__u64 join_lagged;   /* times that an end of one went over to TCP, for its reader lagged */
	__u64 splice_lagged; /* the same of spliced connections */
	__u64 failed_open;   /* connects of HTTP services let past the proxy */
	__u64 failed_closed; /* the same, refused */
	__u64 bound_to_device;	/* of those two: bound to a device, loopback is out of reach */
	__u64 no_endpoint;	/* connects refused for want of an endpoint */
	__u64 no_memory;	/* sockets that could not be given an origin record */
	__u64 flows_opened;	/* captured connections whose handshake was done */
	__u64 flows_closed;	/* of those, the ones that have ended */
	__u64 flows_full;	/* captured connections that found no room in flows */
	__u64 enrolled;		/* sockets put into the clients and servers maps */
	__u64 enrol_failed;	/* sockets that could not be */
	__u64 connections_full; /* upstream connections that found no room in connections */
	__u64 rows_full;	/* carried requests and upcalls that found no room for their row */
	__u64 bells_full;	/* events that found no room in their worker's ring buffer */
	__u64 answers_unheard;	/* bad answers that found none in the agent's */
};

#endif
