/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the parsers make of heads. */
#ifndef MESHD_TYPES_HEAD_H
#define MESHD_TYPES_HEAD_H

#include "consts.h"

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
	__u32 elements;	 /* of path_element: ends of elements before the last one */
	__u32 known;	 /* 1: it has been read before: see read_head */
	__u32 candidate; /* place of its route among the path's */
	__u64 match_hash;
	__u64 rules; /* its route was found by, if it is of the request that is kept; else 0 */
	struct path_element element[MAX_PREFIX_ELEMENTS];
	struct head_scan scan;
	struct head_field field[FIELD_SLOTS];
};

#endif
