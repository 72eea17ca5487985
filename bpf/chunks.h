/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Where the chunks of a chunked body end (RFC 9112, 7.1). Plain ones only: a size without
 * extensions, whole in one message with what is around it; the proxy reads on from the first size
 * line that is not so.
 */
#ifndef MESHD_CHUNKS_H
#define MESHD_CHUNKS_H

#include "consts.h"
#include "types/connection.h"

#define MAX_CHUNK_DIGITS 7
/* The line end of the chunk before, a size line, and the line end after the last one. */
#define CHUNK_LOOK_AHEAD (2 + MAX_CHUNK_DIGITS + 2 + 2)

/* What the first bytes of a message are in a chunked body. */
struct chunk_piece {
	u32 length;		  /* bytes that go to the client at once; 0: none */
	u64 data;		  /* bytes of the chunk's data that follow them */
	enum response_state next; /* what comes after both */
};

static __always_inline bool is_line_end(const u8 *at, const u8 *end)
{
	return at + 2 <= end && at[0] == '\r' && at[1] == '\n';
}

/* The length of the size line at at, its end included; 0: it is not whole or not plain. */
static __always_inline u32 chunk_line(const u8 *at, const u8 *end, u64 *size)
{
	u64 value = 0;

	for (u32 i = 0; i <= MAX_CHUNK_DIGITS; i++) {
		u8 c;

		if (at + i + 2 > end)
			return 0;
		c = at[i];
		if (c == '\r') {
			*size = value;
			return i && at[i + 1] == '\n' ? i + 2 : 0;
		}
		if (c >= '0' && c <= '9')
			c -= '0';
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			c = (c | 0x20) - 'a' + 10;
		else
			return 0;
		value = value << 4 | c;
	}
	return 0;
}

/* Reads what a message begins with: a size line or, after_data, the line end after a chunk and what
 * follows it. carried: bytes of the response so far.
 */
static __always_inline void read_chunk(
	struct chunk_piece *piece, const u8 *at, const u8 *end, bool after_data, u64 carried)
{
	u32 before = 0, line;
	u64 size = 0;

	piece->length = 0;
	piece->data = 0;
	if (after_data) {
		if (!is_line_end(at, end)) {
			piece->next = RESPONSE_BROKEN;
			return;
		}
		before = 2;
		at += 2;
	}
	line = chunk_line(at, end, &size);
	if (line && size && carried + size <= MESHD_MAX_RESPONSE_BODY) {
		piece->length = before + line;
		piece->data = size;
		piece->next = RESPONSE_CHUNK_END;
		return;
	}
	if (line && !size && is_line_end(at + line, end)) {
		piece->length = before + line + 2;
		piece->next = RESPONSE_NONE;
		return;
	}
	/* The line end alone, and then the line again, or the proxy's part. */
	piece->length = before;
	piece->next = before ? RESPONSE_CHUNK_LINE : RESPONSE_SPILLED;
}

#endif
