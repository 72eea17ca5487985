/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which fields of a head matter: where a field goes, by its name, or that it is the proxy's. */
#ifndef MESHD_FIELD_NAMES_H
#define MESHD_FIELD_NAMES_H

#include "head_text.h"
#include "types/rules.h"

#define NAME_GOES_ON(a, b, c, d, e, f, g, h)                                                       \
	(scan->name[1] == CHARS8(a, b, c, d, e, f, g, h) && !scan->name[2])

/* Finds an indexed name. Zeros are after each name's end, so no length is to be compared but that
 * of a name that fills the words.
 */
static __always_inline u32 indexed_slot(const struct head_scan *scan, const struct rule_set *set)
{
	for (u32 i = 0; i < MAX_INDEXED_HEADERS; i++) {
		if (i >= set->headers)
			break;
		if (set->header_length[i] == scan->name_length &&
			LOAD64(set->header[i]) == scan->name[0] &&
			LOAD64(set->header[i] + 8) == scan->name[1] &&
			LOAD64(set->header[i] + 16) == scan->name[2] &&
			LOAD64(set->header[i] + 24) == scan->name[3])
			return i;
	}
	return FIELD_OTHER;
}

/* Fields that the proxy refuses in a request that has two of them. */
enum single_field {
	SINGLE_CONTENT_TYPE = 1,
	SINGLE_CONTENT_RANGE = 2,
	SINGLE_CONTENT_LOCATION = 4,
	SINGLE_USER_AGENT = 8,
	SINGLE_MAX_FORWARDS = 16,
	SINGLE_ETAG = 32,
	SINGLE_SERVER = 64,
};

/* Where a request's field goes, by its name; a reason: it is the proxy's. */
static __always_inline enum upcall request_slot(
	struct head_scan *scan, struct request_head *head, const struct rule_set *set)
{
	u32 single;

	scan->slot = FIELD_OTHER;
	scan->single = 0;
	switch (scan->name[0]) {
	case CHARS8('h', 'o', 's', 't', 0, 0, 0, 0):
		scan->slot = FIELD_HOST;
		return UPCALL_NONE;
	case CHARS8('c', 'o', 'n', 't', 'e', 'n', 't', '-'):
		if (NAME_GOES_ON('l', 'e', 'n', 'g', 't', 'h', 0, 0)) {
			scan->slot = FIELD_CONTENT_LENGTH;
			return UPCALL_NONE;
		}
		if (NAME_GOES_ON('t', 'y', 'p', 'e', 0, 0, 0, 0))
			scan->single = SINGLE_CONTENT_TYPE;
		else if (NAME_GOES_ON('r', 'a', 'n', 'g', 'e', 0, 0, 0))
			scan->single = SINGLE_CONTENT_RANGE;
		else if (NAME_GOES_ON('l', 'o', 'c', 'a', 't', 'i', 'o', 'n'))
			scan->single = SINGLE_CONTENT_LOCATION;
		break;
	case CHARS8('u', 's', 'e', 'r', '-', 'a', 'g', 'e'):
		if (NAME_GOES_ON('n', 't', 0, 0, 0, 0, 0, 0))
			scan->single = SINGLE_USER_AGENT;
		break;
	case CHARS8('m', 'a', 'x', '-', 'f', 'o', 'r', 'w'):
		if (NAME_GOES_ON('a', 'r', 'd', 's', 0, 0, 0, 0))
			scan->single = SINGLE_MAX_FORWARDS;
		break;
	case CHARS8('e', 't', 'a', 'g', 0, 0, 0, 0):
		scan->single = SINGLE_ETAG;
		break;
	case CHARS8('s', 'e', 'r', 'v', 'e', 'r', 0, 0):
		scan->single = SINGLE_SERVER;
		break;
	case CHARS8('c', 'o', 'n', 'n', 'e', 'c', 't', 'i'):
		if (!NAME_GOES_ON('o', 'n', 0, 0, 0, 0, 0, 0))
			break;
		scan->slot = FIELD_CONNECTION;
		return UPCALL_NONE;
	case CHARS8('x', '-', 'r', 'e', 'q', 'u', 'e', 's'):
		if (!NAME_GOES_ON('t', '-', 'i', 'd', 0, 0, 0, 0))
			break;
		head->has_request_id = 1;
		return UPCALL_NONE;
	case CHARS8('x', '-', 'f', 'o', 'r', 'w', 'a', 'r'):
		if (NAME_GOES_ON('d', 'e', 'd', '-', 'f', 'o', 'r', 0))
			return UPCALL_FIELD;
		if (scan->name[1] != CHARS8('d', 'e', 'd', '-', 'p', 'r', 'o', 't') ||
			scan->name[2] != 'o')
			break;
		head->has_forwarded_proto = 1;
		return UPCALL_NONE;
	case CHARS8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'):
		if (scan->name[1] != CHARS8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') ||
			scan->name[2] != 'g')
			break;
		return UPCALL_BODY;
	case CHARS8('p', 'r', 'o', 'x', 'y', '-', 'c', 'o'):
		if (!NAME_GOES_ON('n', 'n', 'e', 'c', 't', 'i', 'o', 'n'))
			break;
		return UPCALL_FIELD;
	case CHARS8('k', 'e', 'e', 'p', '-', 'a', 'l', 'i'):
		if (!NAME_GOES_ON('v', 'e', 0, 0, 0, 0, 0, 0))
			break;
		return UPCALL_FIELD;
	case CHARS8('h', 't', 't', 'p', '2', '-', 's', 'e'):
		if (!NAME_GOES_ON('t', 't', 'i', 'n', 'g', 's', 0, 0))
			break;
		return UPCALL_FIELD;
	case CHARS8('t', 'e', 0, 0, 0, 0, 0, 0):
	case CHARS8('v', 'i', 'a', 0, 0, 0, 0, 0):
	case CHARS8('e', 'x', 'p', 'e', 'c', 't', 0, 0):
	case CHARS8('t', 'r', 'a', 'i', 'l', 'e', 'r', 0):
	case CHARS8('u', 'p', 'g', 'r', 'a', 'd', 'e', 0):
		return UPCALL_FIELD;
	}
	single = LOADED(scan->single);
	if (LOADED(scan->singles) & single)
		return UPCALL_FIELD;
	scan->singles |= single;
	scan->slot = indexed_slot(scan, set);
	return UPCALL_NONE;
}

/* The same of a response's field. */
static __always_inline enum upcall response_slot(struct head_scan *scan)
{
	scan->slot = FIELD_OTHER;
	switch (scan->name[0]) {
	case CHARS8('d', 'a', 't', 'e', 0, 0, 0, 0):
		scan->slot = FIELD_DATE;
		break;
	case CHARS8('c', 'o', 'n', 't', 'e', 'n', 't', '-'):
		if (NAME_GOES_ON('l', 'e', 'n', 'g', 't', 'h', 0, 0))
			scan->slot = FIELD_CONTENT_LENGTH;
		break;
	case CHARS8('c', 'o', 'n', 'n', 'e', 'c', 't', 'i'):
		if (NAME_GOES_ON('o', 'n', 0, 0, 0, 0, 0, 0))
			scan->slot = FIELD_CONNECTION;
		break;
	case CHARS8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'):
		if (scan->name[1] == CHARS8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
			scan->name[2] == 'g')
			scan->slot = FIELD_TRANSFER_ENCODING;
		break;
	case CHARS8('p', 'r', 'o', 'x', 'y', '-', 'c', 'o'):
		if (NAME_GOES_ON('n', 'n', 'e', 'c', 't', 'i', 'o', 'n'))
			return UPCALL_RESPONSE;
		break;
	case CHARS8('t', 'e', 0, 0, 0, 0, 0, 0):
	case CHARS8('v', 'i', 'a', 0, 0, 0, 0, 0):
	case CHARS8('t', 'r', 'a', 'i', 'l', 'e', 'r', 0):
	case CHARS8('u', 'p', 'g', 'r', 'a', 'd', 'e', 0):
		return UPCALL_RESPONSE;
	}
	return UPCALL_NONE;
}

#endif
