/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fields of a head, one after the other, and what their values say. */
#ifndef MESHD_HEAD_FIELDS_H
#define MESHD_HEAD_FIELDS_H

#include "field_names.h"
#include "head_text.h"

/* A name takes a step for each eight bytes, a value one for each 32. */
#define VALUE_STEP_WORDS  4
#define MAX_LENGTH_DIGITS 10

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

#endif
