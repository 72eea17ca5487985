/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the maps hold. User space has no second definition: it reads these from the BTF of the
 * loaded maps (meshd/datapath/kernel/btf.py). Field names are therefore part of the contract.
 */
#ifndef MESHD_TYPES_H
#define MESHD_TYPES_H

#include "consts.h"

/* A TCP destination or source. IPv4 addresses are in their v4-mapped IPv6 form (::ffff:a.b.c.d), so
 * that an IPv4 socket and an IPv6 socket that carries IPv4 meet in the same entry.
 */
struct address_port {
	__be32 address[4];
	__u16 port; /* host order */
	__u16 zero; /* keys are compared as bytes */
};

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

/* Bits of member.flags. */
enum member_flag {
	MEMBER_FAST_PATH = 1, /* sockets of this workload may be enrolled */
	MEMBER_JOINS = 2,     /* its connections to opaque TCP services are joined, whatever these
				 say */
	MEMBER_JOINS_NOT = 4, /* none of its connections is, at either end */
};

/* A network namespace that the mesh serves. */
struct member {
	__u16 port4; /* of the in-pod listener on 127.0.0.1, host order; 0: there is none */
	__u16 port6; /* the same on ::1 */
	enum member_flag flags;
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

/* An address of a workload, as in address_port. */
struct home_address {
	__be32 address[4];
};

struct endpoint_key {
	__u32 service;
	__u32 generation;
	__u32 slot;
};

/* The client's end of a captured connection, as the proxy sees it from the accepted socket: its
 * peer's address and port. The cookie tells apart the namespaces, which all have a 127.0.0.1.
 */
struct flow_key {
	__u64 netns;
	struct address_port client;
	__u32 zero;
};

/* Where a connection goes whose destination was rewritten. */
enum captured {
	CAPTURED_NOT = 0,     /* to an endpoint */
	CAPTURED_HTTP = 1,    /* to the in-pod listener */
	CAPTURED_RELAYED = 2, /* the same, and the kernel carries none of its bytes */
};

/* What a client socket asked for before its destination was rewritten. */
struct origin {
	struct address_port destination;
	enum captured captured;
	__u32 joined; /* 1: it may be joined with that endpoint's end */
};

/* A connection as one of its ends has it. */
struct ends {
	struct address_port local;
	struct address_port remote;
};

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

/* Written by the agent. */
struct settings {
	__u64 heartbeat_timeout_ns; /* a worker that has not beaten for longer is not alive */
	__u32 mark;		    /* SO_MARK of the proxy's own sockets */
	__u32 plain_mark;	    /* of those whose peers are not to be enrolled */
	__u32 fast_path;	    /* 1: requests may take the fast path */
	__u32 sample;		    /* one in so many requests is an upcall; 0: none */
	__u32 access_log;	    /* 1: requests are logged */
};

enum method {
	METHOD_ANY = 0, /* of a route; of a request: not one of these, an upcall */
	METHOD_GET = 1,
	METHOD_HEAD = 2,
	METHOD_POST = 3,
	METHOD_PUT = 4,
	METHOD_DELETE = 5,
	METHOD_OPTIONS = 6,
	METHOD_PATCH = 7,
	METHOD_TRACE = 8,
};

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

/* A connection from the proxy (U) to a server (S). On one node both ends have the same record. */
struct connection_key {
	struct address_port proxy;  /* U's own end */
	struct address_port server; /* S's own end */
};

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

#define NAME_WORDS 8

/* Where the parser is in a head: bpf/head_fields.h. Nothing in it outlives a call. */
struct head_scan {
	__u32 size; /* bytes that are looked at */
	__u32 at;
	__u32 in_value; /* 1; 0: in a name */
	__u32 ended;	/* 1 */
	__u32 ipv6;	/* 1: in an address in brackets */
	__u32 slot;	/* of the field */
	__u32 name_length;
	__u32 single;  /* bit of the field, if there may be but one of it */
	__u32 singles; /* bits of those that there have been */
	__u32 zero;
	/* In lower case; zeros are after it in the words that indexed names may have. */
	__u64 name[NAME_WORDS];
};

/* Where the parser puts a field. A request's indexed ones have the first slots. */
enum field_slot {
	FIELD_TRANSFER_ENCODING = 0, /* of a response */
	FIELD_DATE = 1,		     /* of a response */
	FIELD_HOST = MAX_INDEXED_HEADERS,
	FIELD_CONTENT_LENGTH = 5,
	FIELD_CONNECTION = 6,
	FIELD_OTHER = 7,
	FIELD_SLOTS = 8,
};

/* Where a field's value stands in a head. */
struct head_field {
	__u32 start;
	__u32 length;
	__u32 count; /* fields of that name; the value is the last one's */
};

/* What the parser makes of a response's head. */
struct response_head {
	__u32 length; /* bytes, the empty line included */
	__u32 status;
	__u64 content_length; /* of the body that follows */
	__u32 chunked;	      /* 1 */
	__u32 zero;
	struct head_scan scan;
	struct head_field field[FIELD_SLOTS];
};

/* One direction's bytes are counted by TCP's own sequence numbers, from that of the first byte. */
struct connection {
	__u32 first_to_server;	 /* sequence number of the first byte from U to S */
	__u32 first_from_server; /* and from S to U */
	enum place place;
	__u32 received; /* bytes that S had got from U when it last sent, mod 2^32 */
	__u32 unread;	/* 1: it had not read all of them by then */
	__u32 passed;	/* bytes from another node that went to the proxy, mod 2^32 */
	__u32 divided;	/* as a flow's, of the server's messages */
	enum response_state response;
	__u64 response_left;
	__u64 carried;	 /* bytes of that answer that went to the client */
	__u64 last_used; /* CLOCK_MONOTONIC in ns: end of the last answer that the kernel carried */
	struct flow_key flow; /* whose request it carries, or carried last */
	__u32 redirected; /* bytes to S since it was known to have read all; messages count as more
			   */
	__u32 judged;	  /* 1: that request's cluster ejects endpoints by their answers */
	__u32 zero;
	struct response_head head;
};

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

/* A socket that a process read by splice(2). */
struct splice_reader {
	__u64 inode; /* as in /proc/PID/fd */
	__u32 process;
	__u32 zero;
};

enum path_kind {
	PATH_EXACT = 1,
	PATH_PREFIX = 2, /* by elements; "/" is the empty path's hash */
};

/* Where a path element ends in a request's path, and the hash of the path up to there. */
struct path_element {
	__u64 hash;
	__u32 end;
	__u32 zero;
};

/* What the parser makes of a request's head. In the flow's record, not in per-CPU memory: a program
 * may be preempted by another task's.
 */
struct request_head {
	__u32 length; /* bytes, the empty line included */
	enum method method;
	__u32 path_start;
	__u32 path_end;
	__u64 path_hash;
	__u64 content_length;
	__u32 has_query;	   /* 1 */
	__u32 has_forwarded_proto; /* 1 */
	__u32 has_request_id;	   /* 1 */
	__u32 match_length; /* of the longest path that a route names, in bytes; see routes.h */
	enum path_kind match_kind;
	__u32 elements; /* of path_element: ends of elements before the last one */
	__u64 match_hash;
	struct path_element element[MAX_PREFIX_ELEMENTS];
	struct head_scan scan;
	struct head_field field[FIELD_SLOTS];
};

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

/* A captured connection. Counts of bytes and requests wrap at 2^32. */
struct flow {
	struct address_port destination; /* that the client asked for */
	__u32 first_sent;		 /* sequence number of the client's first byte */
	__u32 first_received;		 /* and of the first byte to it */
	__u32 requests;			 /* that the kernel has carried, by the client's program */
	__u32 responses;    /* whose answer it has carried to its end, by the server's */
	__u32 begun;	    /* whose answer's first byte it has carried, by the server's */
	__u32 upcalls;	    /* messages passed up to the proxy */
	enum upcall reason; /* of the last one, but for UPCALL_SLOW: a request's later messages */
	__u32 pipelines; /* 1: the client has sent a request before it had the last one's answer */
	__u32 divided; /* 1: the next bytes are the rest of a message that was redirected in part */
	__u64 opened;  /* CLOCK_MONOTONIC in ns, when the client's handshake was done */
	__u64 request_left;  /* bytes of the request's body still to carry */
	__u32 given_up;	     /* 1: they are the proxy's, for the server has gone */
	__u32 kept;	     /* first bytes of the request, all that went out; 0: not kept */
	__u32 request_id[4]; /* that it was given, as a UUID's 128 bits; zeros: none */
	__u64 began;	     /* CLOCK_MONOTONIC in ns, of the request carried now or last */
	__u64 rules;	     /* it was decided by */
	__u64 cluster;	     /* it went to */
	__u32 route;	     /* it took: index among the rules' routes */
	__u32 remote;	     /* 1: its server is on another node */
	__u32 ended;	     /* 1: the client has said that it sends nothing more */
	__u32 redirected;    /* as a connection's, to the client */
	struct connection_key connection; /* that carries it */
	struct request_head head;
	struct kept_piece first_piece; /* of what is kept */
};

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

struct upcall_row {
	__u32 service;
	enum upcall reason;
};

/* Counters since load. The names are those that user space shows. */
struct stats {
	__u64 captured;	     /* connects sent to the proxy */
	__u64 balanced;	     /* connects of opaque TCP services sent to an endpoint */
	__u64 joined;	     /* of the connections made so, those that were joined */
	__u64 ends_opened;   /* ends of connections that were or could have been joined */
	__u64 ends_closed;   /* of those, the ones that have ended */
	__u64 join_lagged;   /* times that an end of one went over to TCP, for its reader lagged */
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
