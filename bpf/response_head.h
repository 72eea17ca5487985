/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A response's head. */
#ifndef MESHD_RESPONSE_HEAD_H
#define MESHD_RESPONSE_HEAD_H

#include "head_fields.h"

/* Of fields: enough for 1024 bytes and 30 fields. The verifier's time goes with them. */
#define MAX_RESPONSE_STEPS 128
#define MAX_REASON_STEPS   8

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
