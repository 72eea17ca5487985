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
#ifndef MESHD_HEAD_TEXT_H
#define MESHD_HEAD_TEXT_H

#include "types/head.h"
#include "types/upcall.h"
#include "words.h"

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

#endif
