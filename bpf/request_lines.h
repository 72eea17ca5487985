/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The lines that the mesh adds to a request's head, as the proxy adds them (proxy/http1/heads.py).
 *
 * Each piece that a message is in costs its reader about as much as a short line does. So they do
 * not go between the last field and the empty line, which would make three pieces of one, but
 * behind the empty line: its two bytes become the "x-" that each line begins with, and each line is
 * written turned, with the "x-" of the next one at its end. At the last one's end the empty line
 * takes its place.
 */
#ifndef MESHD_REQUEST_LINES_H
#define MESHD_REQUEST_LINES_H

#include "head_text.h"
#include "types/arming.h"
#include "types/head.h"
#include "words.h"

/* "forwarded-proto: http\r\nx-" */
#define FORWARDED_PROTO_BYTES 25
/* "request-id: ", 36 characters, "\r\nx-" */
#define REQUEST_ID_BYTES 52
#define MAX_LINES_BYTES	 (MAX_FORWARDED_FOR_BYTES + FORWARDED_PROTO_BYTES + REQUEST_ID_BYTES)

/* Which lines a request gets. */
struct lines {
	u32 forwarded_for; /* bytes */
	u32 forwarded_proto;
	u32 request_id;
	u32 total;
};

static __always_inline void plan_lines(
	struct lines *lines, const struct arming *arming, const struct request_head *head)
{
	lines->forwarded_for = arming->forwarded_for_length;
	if (lines->forwarded_for > MAX_FORWARDED_FOR_BYTES)
		lines->forwarded_for = MAX_FORWARDED_FOR_BYTES;
	lines->forwarded_proto = 0;
	if (arming->flags & ARMED_FORWARDED_PROTO && !head->has_forwarded_proto)
		lines->forwarded_proto = FORWARDED_PROTO_BYTES;
	lines->request_id = 0;
	if (arming->flags & ARMED_REQUEST_ID && !head->has_request_id)
		lines->request_id = REQUEST_ID_BYTES;
	lines->total = lines->forwarded_for + lines->forwarded_proto + lines->request_id;
}

static __always_inline void write_forwarded_proto(u8 *at)
{
	*(u64 *)at = CHARS8('f', 'o', 'r', 'w', 'a', 'r', 'd', 'e');
	*(u64 *)(at + 8) = CHARS8('d', '-', 'p', 'r', 'o', 't', 'o', ':');
	*(u64 *)(at + 16) = CHARS8(' ', 'h', 't', 't', 'p', '\r', '\n', 'x');
	at[24] = '-';
}

/* The hexadecimal digits of 16 bits, the highest first. */
static __always_inline u32 hexadecimal(u32 bits)
{
	u32 spread, letters;

	/* Each nibble into a byte of its own: 0xabcd is 0x0d0c0b0a, for a is written first. */
	spread = (bits >> 12 & 0xf) | (bits & 0xf00) | (bits & 0xf0) << 12 | (bits & 0xf) << 24;
	/* 1 in each byte that is over 9; '0' + 39 + 10 is 'a'. */
	letters = (spread + 0x06060606) >> 4 & 0x01010101;
	return spread + 0x30303030 + letters * 39;
}

/* A random UUID, version 4 (RFC 9562, 5.4). Unique, not secret. */
static __always_inline void new_request_id(u32 *id)
{
	id[0] = bpf_get_prandom_u32();
	id[1] = (bpf_get_prandom_u32() & 0xffff0fff) | 0x4000;
	id[2] = (bpf_get_prandom_u32() & 0x3fffffff) | 0x80000000;
	id[3] = bpf_get_prandom_u32();
}

static __always_inline void write_request_id(u8 *at, const u32 *id)
{
	u32 a = id[0], b = id[1], c = id[2], d = id[3];

	*(u64 *)at = CHARS8('r', 'e', 'q', 'u', 'e', 's', 't', '-');
	*(u32 *)(at + 8) = CHARS4('i', 'd', ':', ' ');
	*(u32 *)(at + 12) = hexadecimal(a >> 16);
	*(u32 *)(at + 16) = hexadecimal(a & 0xffff);
	at[20] = '-';
	*(u32 *)(at + 21) = hexadecimal(b >> 16);
	at[25] = '-';
	*(u32 *)(at + 26) = hexadecimal(b & 0xffff);
	at[30] = '-';
	*(u32 *)(at + 31) = hexadecimal(c >> 16);
	at[35] = '-';
	*(u32 *)(at + 36) = hexadecimal(c & 0xffff);
	*(u32 *)(at + 40) = hexadecimal(d >> 16);
	*(u32 *)(at + 44) = hexadecimal(d & 0xffff);
	*(u32 *)(at + 48) = CHARS4('\r', '\n', 'x', '-');
}

/* Writes over the last two bytes of the head as it came. */
static __always_inline bool write_head_end(struct sk_msg_md *msg, u32 length, u16 bytes)
{
	u8 *at = (u8 *)(long)msg->data + MASKED(length - 2, OFFSET_MASK);

	if (at + 2 > (u8 *)(long)msg->data_end)
		return false;
	*(u16 *)at = bytes;
	return true;
}

/* Takes the lines out again. */
static __always_inline void remove_lines(struct sk_msg_md *msg, u32 length, u32 total)
{
	bpf_msg_pop_data(msg, length, total, 0);
	write_head_end(msg, length, CHARS2('\r', '\n'));
}

/* False: never, but the verifier does not know. The line is longer than eight bytes, and its last
 * ones may be written twice.
 */
static __always_inline bool write_forwarded_for(u8 *at, const u8 *end, const struct arming *arming)
{
	u32 length = LOADED(arming->forwarded_for_length), last;

	for (u32 i = 0; i < MAX_FORWARDED_FOR_BYTES; i += 8) {
		if (i + 8 > length)
			break;
		if (at + i + 8 > end)
			return false;
		*(u64 *)(at + i) = LOAD64(arming->forwarded_for + i);
	}
	last = MASKED(length - 8, 63);
	if (last > MAX_FORWARDED_FOR_BYTES - 8 || at + last + 8 > end)
		return false;
	*(u64 *)(at + last) = LOAD64(arming->forwarded_for + last);
	return true;
}

/* Adds the lines. False: the message is as it was. */
static __always_inline bool insert_lines(struct sk_msg_md *msg, const struct lines *lines,
	const struct arming *arming, struct flow *flow)
{
	u32 length = flow->head.length, total = lines->total;
	u8 *at, *end;

	if (bpf_msg_push_data(msg, length, total, 0))
		return false;
	if (!write_head_end(msg, length, CHARS2('x', '-')))
		goto undo;
	/* The inserted bytes are a piece of their own, so there is nothing to copy, and it cannot
	 * fail. */
	if (bpf_msg_pull_data(msg, length, length + total, 0))
		goto undo;
	at = (u8 *)(long)msg->data;
	end = (u8 *)(long)msg->data_end;
	if (lines->forwarded_for && !write_forwarded_for(at, end, arming))
		goto undo;
	/* Loaded again, all: to the verifier the others differ by each step of the loop. */
	at = *(u8 *volatile *)&msg->data + (LOADED(arming->forwarded_for_length) & 127);
	end = *(u8 *volatile *)&msg->data_end;
	if (lines->forwarded_proto) {
		if (at + FORWARDED_PROTO_BYTES > end)
			goto undo;
		write_forwarded_proto(at);
		at += FORWARDED_PROTO_BYTES;
	}
	if (lines->request_id) {
		if (at + REQUEST_ID_BYTES > end)
			goto undo;
		new_request_id(flow->request_id);
		write_request_id(at, flow->request_id);
	}
	at = *(u8 *volatile *)&msg->data + MASKED(total - 2, 255);
	if (at + 2 > end)
		goto undo;
	*(u16 *)at = CHARS2('\r', '\n');
	return true;
undo:
	remove_lines(msg, length, total);
	return false;
}

#endif
