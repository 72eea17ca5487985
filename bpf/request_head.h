/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A request's head. */
#ifndef MESHD_REQUEST_HEAD_H
#define MESHD_REQUEST_HEAD_H

#include "fnv.h"
#include "head_fields.h"

/* Of fields: enough for 2048 bytes and 40 fields. The verifier's time goes with them. */
#define MAX_REQUEST_STEPS 256
#define MAX_TARGET_STEPS  (MESHD_MAX_REQUEST_HEAD / 8)
/* A DNS name has 253 bytes at most, and then there is the port. The proxy takes 300. */
#define MAX_HOST_STEPS 32

/* Whether a Host is a name or an address, with or without a port; a part of what the proxy's
 * is_host takes.
 */
static __always_inline bool is_host(
	const struct text *text, struct head_scan *scan, const struct head_field *field)
{
	u32 start = field->start, end = start + field->length, at;
	u64 word, others;

	if (!word_at(text, start, &word))
		return false;
	scan->ipv6 = (word & 0xff) == '[';
	start += LOADED(scan->ipv6);
	scan->at = start;
	/* The value ends before a CR, which is in no host. */
	for (u32 i = 0; i < MAX_HOST_STEPS; i++) {
		at = LOADED(scan->at);
		if (!word_at(text, at, &word))
			return false;
		others = LOADED(scan->ipv6) ? not_in_ipv6(word) : not_in_host(word);
		if (others) {
			scan->at = at + first_of(others);
			break;
		}
		scan->at = at + 8;
	}
	at = LOADED(scan->at);
	if (at == start || !word_at(text, at, &word))
		return false;
	if (LOADED(scan->ipv6)) {
		if ((word & 0xff) != ']')
			return false;
		at++;
		word >>= 8;
	}
	if (at == end)
		return true;
	others = not_a_digit(
		word >> 8); /* a port has at most five digits, so a byte after is here */
	return (word & 0xff) == ':' && others && first_of(others) <= 5 &&
	       at + 1 + first_of(others) == end;
}

/* The method of a request line that begins so, and where its target begins. */
static __always_inline enum method read_method(u64 word, u32 *target)
{
	u32 first = word;

	if (first == CHARS4('G', 'E', 'T', ' ') || first == CHARS4('P', 'U', 'T', ' ')) {
		*target = 4;
		return first == CHARS4('G', 'E', 'T', ' ') ? METHOD_GET : METHOD_PUT;
	}
	if (word << 24 == CHARS8(0, 0, 0, 'P', 'O', 'S', 'T', ' ')) {
		*target = 5;
		return METHOD_POST;
	}
	if (word << 24 == CHARS8(0, 0, 0, 'H', 'E', 'A', 'D', ' ')) {
		*target = 5;
		return METHOD_HEAD;
	}
	if (word << 16 == CHARS8(0, 0, 'P', 'A', 'T', 'C', 'H', ' ')) {
		*target = 6;
		return METHOD_PATCH;
	}
	if (word << 16 == CHARS8(0, 0, 'T', 'R', 'A', 'C', 'E', ' ')) {
		*target = 6;
		return METHOD_TRACE;
	}
	if (word << 8 == CHARS8(0, 'D', 'E', 'L', 'E', 'T', 'E', ' ')) {
		*target = 7;
		return METHOD_DELETE;
	}
	if (word == CHARS8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' ')) {
		*target = 8;
		return METHOD_OPTIONS;
	}
	return METHOD_ANY;
}

/* Looks for the end of the target, which begins at scan->at, and of the request line. */
static __always_inline enum upcall scan_target(const struct text *text, struct head_scan *scan)
{
	u64 word, last;
	u32 at;

	for (u32 i = 0; i < MAX_TARGET_STEPS; i++) {
		u64 others;

		at = LOADED(scan->at);
		if (!word_at(text, at, &word))
			return UPCALL_INCOMPLETE;
		others = not_in_target(word);
		if (others) {
			scan->at = at + first_of(others);
			break;
		}
		scan->at = at + 8;
	}
	at = LOADED(scan->at);
	if (!word_at(text, at, &word))
		return UPCALL_INCOMPLETE;
	if ((word & 0xff) != ' ')
		return wrong(text, at, UPCALL_TARGET);
	if (word != CHARS8(' ', 'H', 'T', 'T', 'P', '/', '1', '.') ||
		!word_at(text, at + 8, &last) || (last & 0xffffff) != CHARS4('1', '\r', '\n', 0))
		return wrong(text, at + 10, UPCALL_SYNTAX);
	scan->at = at + 11;
	return UPCALL_NONE;
}

/* The path, of which it is known that the target's end comes after it. */
static __always_inline enum upcall read_path(const struct text *text, struct request_head *head)
{
	u32 start = MASKED(LOADED(head->path_start), 15), elements;
	const u8 *at = text->data + start;
	u64 hash = fnv(FNV_BASIS, '/');

	head->elements = 0;
	if (at + 1 > text->end || at[0] != '/')
		return UPCALL_TARGET;
	for (u32 i = 1; i <= MAX_PATH_BYTES; i++) {
		u8 c;

		if (at + i + 1 > text->end)
			return UPCALL_INCOMPLETE;
		c = at[i];
		if (c == ' ' || c == '?') {
			head->has_query = c == '?';
			head->path_end = start + i;
			head->path_hash = hash;
			return UPCALL_NONE;
		}
		if (c == '/') {
			elements = LOADED(head->elements);
			if (elements < MAX_PREFIX_ELEMENTS) {
				struct path_element *element =
					&head->element[MASKED(elements, MAX_PREFIX_ELEMENTS - 1)];

				element->hash = hash;
				element->end = start + i;
				head->elements = elements + 1;
			}
		}
		hash = fnv(hash, c);
	}
	return UPCALL_TARGET;
}

/* Reads a request's head. UPCALL_NONE: head says what is in it; else why it is the proxy's. */
static __always_inline enum upcall parse_request(
	const u8 *data, const u8 *data_end, struct request_head *head, const struct rule_set *set)
{
	struct head_scan *scan = &head->scan;
	struct text text;
	enum upcall reason;
	u64 word, length = 0;
	u32 target = 0;

	if (!set_text(&text, scan, data, data_end, MESHD_MAX_REQUEST_HEAD))
		return UPCALL_INCOMPLETE;
	if (!word_at(&text, 0, &word))
		return UPCALL_INCOMPLETE;
	head->method = read_method(word, &target);
	if (!LOADED(head->method))
		return UPCALL_METHOD;
	head->path_start = target;
	head->has_request_id = 0;
	head->has_forwarded_proto = 0;
	scan->at = target;
	reason = scan_target(&text, scan);
	if (reason)
		return reason;
	reason = read_path(&text, head);
	if (reason)
		return reason;
	begin_fields(scan, head->field, LOADED(scan->at));
	reason = scan_fields(&text, scan, head->field, head, set, MAX_REQUEST_STEPS);
	if (reason)
		return reason;
	head->length = scan->at;
	if (head->field[FIELD_CONTENT_LENGTH].count) {
		if (head->field[FIELD_CONTENT_LENGTH].count > 1)
			return UPCALL_FIELD;
		if (!read_length(&text, &head->field[FIELD_CONTENT_LENGTH], &length))
			return UPCALL_BODY;
	}
	head->content_length = length;
	if (!keeps_alive(&text, &head->field[FIELD_CONNECTION]) ||
		head->field[FIELD_HOST].count != 1 ||
		!is_host(&text, scan, &head->field[FIELD_HOST]))
		return UPCALL_FIELD;
	return UPCALL_NONE;
}

#endif
