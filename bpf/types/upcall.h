/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Why requests were the proxy's. */
#ifndef MESHD_TYPES_UPCALL_H
#define MESHD_TYPES_UPCALL_H

/* Why the proxy was given what the kernel might have carried. Names as user space shows them. */
enum upcall {
	UPCALL_NONE = 0,
	UPCALL_OFF = 1,	 /* the fast path is off: on the node, for the workload or the service */
	UPCALL_NEW = 2,	 /* the proxy has not armed the flow: its first request, mostly */
	UPCALL_SLOW = 3, /* the proxy has not consumed all, or the client not read all */
	UPCALL_PIPELINED = 4, /* sent before the answer to the one before had ended */
	UPCALL_CONFIG = 5,    /* the flow was armed under other rules than those in force */
	UPCALL_SAMPLED = 6,
	UPCALL_INCOMPLETE = 7,	   /* the head is not whole in one message, or too long */
	UPCALL_SYNTAX = 8,	   /* the head is not in the plain form that the kernel reads */
	UPCALL_METHOD = 9,	   /* a method that the kernel does not know */
	UPCALL_TARGET = 10,	   /* target not in origin form, too long or with unusual bytes */
	UPCALL_FIELD = 11,	   /* a field that only the proxy handles */
	UPCALL_BODY = 12,	   /* a body that is chunked or too long */
	UPCALL_ROUTE = 13,	   /* the route does what only the proxy can do, or there is none */
	UPCALL_CONDITION = 14,	   /* a condition that only the proxy can test */
	UPCALL_NO_CONNECTION = 15, /* the flow has no connection to the endpoint picked */
	UPCALL_QUIET = 16,	   /* that connection has been idle for long */
	UPCALL_UNREAD = 17,	   /* server or proxy has not read all that the other sent it */
	UPCALL_SERVER_GONE = 18,   /* the server's socket left between two looks */
	UPCALL_MEMORY = 19,	   /* the kernel had no memory for a changed head */
	UPCALL_RESPONSE =
		20, /* the answer to a redirected request, of a form only the proxy handles */
	UPCALL_REASONS = 21,
};

struct upcall_row {
	__u32 service;
	enum upcall reason;
};

#endif
