/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The heads of HTTP/1.1 messages, read in one pass. Written once: user space compiles this too, and
 * compares it with the proxy's parsers (fuzz/).
 *
 * Only a plain form is taken. All else is left to the proxy, good HTTP or not. What is taken reads
 * the same to every parser, and the proxy would write it as it came: one blank after each colon and
 * none at a line's end, no line end but CRLF, no empty value, nothing outside of printable ASCII.
 *
 * Where a loop stands is kept in the result, which is in a map: what is loaded from a map can be
 * anything to the verifier, so it walks each step of a loop once, and not once for each way to get
 * there.
 */
#ifndef MESHD_HTTP_HEAD_H
#define MESHD_HTTP_HEAD_H

#include "types.h"
#include "words.h"

#define FNV_BASIS 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

/* A name takes a step for each eight bytes, a value one for each 32: enough for a request of 2048
 * bytes and 40 fields, and an answer of 1024 bytes and 30 fields. The verifier's time goes with
 * them.
 */
#define MAX_REQUEST_STEPS  256
#define MAX_RESPONSE_STEPS 128
#define VALUE_STEP_WORDS   4
#define MAX_TARGET_STEPS   (MESHD_MAX_REQUEST_HEAD / 8)
/* A DNS name has 253 bytes at most, and then there is the port. The proxy takes 300. */
#define MAX_HOST_STEPS	  32
#define MAX_LENGTH_DIGITS 10
#define MAX_REASON_STEPS  8

/* The verifier masks with this, and no head is longer. */
#define OFFSET_MASK 4095

/* What is in a map now, and to the verifier anything. */
#define LOADED(field) (*(volatile typeof(field) *)&(field))

/* The compiler knows nothing about this value. */
#define HIDDEN(value)                                                                              \
	({                                                                                         \
		typeof(value) value_ = (value);                                                    \
		asm volatile("" : "+r"(value_));                                                   \
		value_;                                                                            \
	})

/* The compiler takes out a mask that changes nothing; the verifier needs it. */
#define MASKED(index, mask) (HIDDEN((u64)(index)) & (mask))

/* A message's bytes, as far as they are looked at. */
struct text {
	const u8 *data;
	const u8 *end;
	u32 size;
};

/* False: it is too short for any head. */
static __always_inline bool set_text(struct text *text, struct head_scan *scan, const u8 *data,
	const u8 *data_end, const u32 limit)
{
	u64 size = data_end - data;

	scan->size = size < limit ? size : limit;
	text->data = data;
	text->end = data_end;
	text->size = LOADED(scan->size);
	return text->size >= 16;
}

/* Eight bytes; zeros stand for those after the text, up to seven bytes after which offset may be.
 * False: never, but the verifier does not know. There is no other branch, as each would double the
 * ways through a step.
 */
static __always_inline bool word_at(const struct text *text, u32 offset, u64 *word)
{
	s64 over = (s64)offset + 8 - text->size;
	const u8 *at;
	u32 shift;

	over &= ~HIDDEN(over >> 63); /* 0 if negative */
	shift = (over & 15) * 4;
	at = text->data + MASKED(offset - over, OFFSET_MASK);
	if (at + 8 > text->end)
		return false;
	*word = LOAD64(at) >> shift >> shift;
	return true;
}

/* What is wrong where something other than this byte was expected. */
static __always_inline enum upcall wrong(const struct text *text, u32 offset, enum upcall reason)
{
	return offset < text->size ? reason : UPCALL_INCOMPLETE;
}

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

static __always_inline void begin_name(struct head_scan *scan)
{
	scan->in_value = 0;
	scan->name_length = 0;
	scan->name[0] = 0;
	scan->name[1] = 0;
	scan->name[2] = 0;
	scan->name[3] = 0;
}

static __always_inline void begin_fields(
	struct head_scan *scan, struct head_field *field, u32 offset)
{
	scan->at = offset;
	scan->singles = 0;
	begin_name(scan);
	for (u32 i = 0; i < FIELD_SLOTS; i++)
		field[i].count = 0;
}

/* Takes eight bytes of a field's name, or its last ones with the colon and the blank after them; or
 * the empty line, after which scan->ended is set.
 */
static __always_inline enum upcall name_step(const struct text *text, struct head_scan *scan,
	struct head_field *field, struct request_head *request, const struct rule_set *set)
{
	u32 at = LOADED(scan->at), length = LOADED(scan->name_length), slot;
	u64 word, others, lower;
	enum upcall reason;

	if (length >= sizeof(scan->name))
		return UPCALL_FIELD;
	if (!word_at(text, at, &word))
		return UPCALL_INCOMPLETE;
	others = not_in_name(word);
	lower = lower_case(word);
	if (!others) {
		scan->name[MASKED(length / 8, NAME_WORDS - 1)] = lower;
		scan->name_length = length + 8;
		scan->at = at + 8;
		return UPCALL_NONE;
	}
	scan->name[MASKED(length / 8, NAME_WORDS - 1)] = lower & before_first_of(others);
	at += first_of(others);
	length += first_of(others);
	scan->name_length = length;
	if (!word_at(text, at, &word))
		return UPCALL_INCOMPLETE;
	if (!length) {
		if ((word & 0xffff) != CHARS2('\r', '\n'))
			return wrong(text, at + 1, UPCALL_SYNTAX);
		scan->ended = 1;
		scan->at = at + 2;
		return UPCALL_NONE;
	}
	if ((word & 0xffff) != CHARS2(':', ' ') || (word & 0xff0000) == ' ' << 16)
		return wrong(text, at + 2, UPCALL_SYNTAX);
	scan->at = at + 2;
	reason = request ? request_slot(scan, request, set) : response_slot(scan);
	if (reason)
		return reason;
	slot = MASKED(LOADED(scan->slot), FIELD_SLOTS - 1);
	field[slot].start = LOADED(scan->at);
	field[slot].count++;
	scan->in_value = 1;
	return UPCALL_NONE;
}

/* Takes some words of a field's value, or its last bytes with the line end. */
static __always_inline enum upcall value_step(
	const struct text *text, struct head_scan *scan, struct head_field *field)
{
	u32 at = 0, slot = MASKED(LOADED(scan->slot), FIELD_SLOTS - 1);
	u64 word, others = 0;

	for (u32 i = 0; i < VALUE_STEP_WORDS; i++) {
		at = LOADED(scan->at);
		if (!word_at(text, at, &word))
			return UPCALL_INCOMPLETE;
		others = not_in_value(word);
		if (others)
			break;
		scan->at = at + 8;
	}
	if (!others)
		return UPCALL_NONE;
	at += first_of(others);
	/* The value's last byte and its end; of an empty value the blank before it. */
	if (!word_at(text, at - 1, &word))
		return UPCALL_INCOMPLETE;
	if ((word & 0xffff00) != CHARS2('\r', '\n') << 8)
		return wrong(text, at + 1, UPCALL_SYNTAX);
	if ((word & 0xff) == ' ')
		return UPCALL_SYNTAX;
	field[slot].length = at - field[slot].start;
	scan->at = at + 2;
	begin_name(scan);
	return UPCALL_NONE;
}

/* All fields, to the end of the head, which scan->at then is. */
static __always_inline enum upcall scan_fields(const struct text *text, struct head_scan *scan,
	struct head_field *field, struct request_head *request, const struct rule_set *set,
	const u32 steps)
{
	scan->ended = 0;
	for (u32 i = 0; i < steps; i++) {
		enum upcall reason;

		if (LOADED(scan->in_value))
			reason = value_step(text, scan, field);
		else
			reason = name_step(text, scan, field, request, set);
		if (reason)
			return reason;
		if (LOADED(scan->ended))
			return UPCALL_NONE;
	}
	return UPCALL_INCOMPLETE;
}

/* A Content-Length's value; false: not a plain number. */
static __always_inline bool read_length(
	const struct text *text, const struct head_field *field, u64 *length)
{
	const u8 *at = text->data + MASKED(field->start, OFFSET_MASK);
	u64 value = 0;

	if (field->length > MAX_LENGTH_DIGITS)
		return false;
	for (u32 i = 0; i < MAX_LENGTH_DIGITS; i++) {
		u32 digit;

		if (i >= field->length)
			break;
		if (at + i + 1 > text->end)
			return false;
		digit = at[i] - '0';
		if (digit > 9)
			return false;
		value = value * 10 + digit;
	}
	*length = value;
	return true;
}

/* Whether Connection says keep-alive, alone, if it is there at all. */
static __always_inline bool keeps_alive(const struct text *text, const struct head_field *field)
{
	u32 at = field->start;
	u64 first, last;

	if (!field->count)
		return true;
	return field->count == 1 && field->length == 10 && word_at(text, at, &first) &&
	       word_at(text, at + 8, &last) &&
	       lower_case(first) == CHARS8('k', 'e', 'e', 'p', '-', 'a', 'l', 'i') &&
	       (lower_case(last) & 0xffff) == CHARS2('v', 'e');
}

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
	u64 hash = (FNV_BASIS ^ '/') * FNV_PRIME;

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
		hash = (hash ^ c) * FNV_PRIME;
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

/* Reads "HTTP/1.1 NNN reason" and its line end. 0: it is none, or not plain. */
static __always_inline u32 read_status_line(const struct text *text, struct head_scan *scan)
{
	u64 version, word;
	u32 status, at;

	if (!word_at(text, 0, &version) || !word_at(text, 8, &word))
		return 0;
	/* ' ', three digits, ' ', and what is not a blank */
	if (version != CHARS8('H', 'T', 'T', 'P', '/', '1', '.', '1') ||
		(word & 0xff000000ff) != ((u64)' ' << 32 | ' ') ||
		(word & 0xff0000000000) == (u64)' ' << 40 || first_of(not_a_digit(word >> 8)) != 3)
		return 0;
	status = (word >> 8 & 15) * 100 + (word >> 16 & 15) * 10 + (word >> 24 & 15);
	scan->at = 13;
	for (u32 i = 0; i < MAX_REASON_STEPS; i++) {
		u64 others;

		at = LOADED(scan->at);
		if (!word_at(text, at, &word))
			return 0;
		others = not_in_value(word);
		if (others) {
			scan->at = at + first_of(others);
			break;
		}
		scan->at = at + 8;
	}
	at = LOADED(scan->at);
	if (!word_at(text, at - 1, &word) || (word & 0xff) == ' ' ||
		(word & 0xffff00) != CHARS2('\r', '\n') << 8)
		return 0;
	scan->at = at + 2;
	return status;
}

static __always_inline bool is_chunked(const struct text *text, const struct head_field *field)
{
	u64 word;

	return field->count == 1 && field->length == 7 && word_at(text, field->start, &word) &&
	       word << 8 == CHARS8(0, 'c', 'h', 'u', 'n', 'k', 'e', 'd');
}

/* Reads a response's head. 0: head says what is in it, with the length of the body that follows;
 * else the response is the proxy's.
 */
static __always_inline int parse_response(
	const u8 *data, const u8 *data_end, struct response_head *head, int to_head_request)
{
	struct head_scan *scan = &head->scan;
	struct head_field *field = head->field;
	struct text text;
	u64 length = 0;
	bool bodiless;

	if (!set_text(&text, scan, data, data_end, MESHD_MAX_RESPONSE_HEAD))
		return UPCALL_RESPONSE;
	head->status = read_status_line(&text, scan);
	if (LOADED(head->status) < 200 || LOADED(head->status) > 599)
		return UPCALL_RESPONSE;
	begin_fields(scan, field, LOADED(scan->at));
	if (scan_fields(&text, scan, field, NULL, NULL, MAX_RESPONSE_STEPS))
		return UPCALL_RESPONSE;
	head->length = scan->at;
	if (field[FIELD_DATE].count != 1 || !keeps_alive(&text, &field[FIELD_CONNECTION]))
		return UPCALL_RESPONSE;
	bodiless = to_head_request || head->status == 204 || head->status == 304;
	head->chunked = 0;
	head->content_length = 0;
	if (field[FIELD_TRANSFER_ENCODING].count) {
		if (bodiless || field[FIELD_CONTENT_LENGTH].count ||
			!is_chunked(&text, &field[FIELD_TRANSFER_ENCODING]))
			return UPCALL_RESPONSE;
		head->chunked = 1;
		return UPCALL_NONE;
	}
	if (!field[FIELD_CONTENT_LENGTH].count)
		return bodiless ? UPCALL_NONE : UPCALL_RESPONSE;
	if (head->status == 204 || field[FIELD_CONTENT_LENGTH].count > 1 ||
		!read_length(&text, &field[FIELD_CONTENT_LENGTH], &length))
		return UPCALL_RESPONSE;
	if (!bodiless)
		head->content_length = length;
	return UPCALL_NONE;
}

#endif
