/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The lines that the mesh adds to a request's head, as the proxy adds them (proxy/http1/heads.py).
 */
#ifndef MESHD_REQUEST_LINES_H
#define MESHD_REQUEST_LINES_H

#include "head_text.h"
#include "types.h"
#include "words.h"

/* "x-forwarded-proto: http\r\n" */
#define FORWARDED_PROTO_BYTES 25
/* "x-request-id: ", 36 characters, "\r\n" */
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
	*(u64 *)at = CHARS8('x', '-', 'f', 'o', 'r', 'w', 'a', 'r');
	*(u64 *)(at + 8) = CHARS8('d', 'e', 'd', '-', 'p', 'r', 'o', 't');
	*(u64 *)(at + 16) = CHARS8('o', ':', ' ', 'h', 't', 't', 'p', '\r');
	at[24] = '\n';
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

	*(u64 *)at = CHARS8('x', '-', 'r', 'e', 'q', 'u', 'e', 's');
	*(u32 *)(at + 8) = CHARS4('t', '-', 'i', 'd');
	*(u16 *)(at + 12) = CHARS2(':', ' ');
	*(u32 *)(at + 14) = hexadecimal(a >> 16);
	*(u32 *)(at + 18) = hexadecimal(a & 0xffff);
	at[22] = '-';
	*(u32 *)(at + 23) = hexadecimal(b >> 16);
	at[27] = '-';
	*(u32 *)(at + 28) = hexadecimal(b & 0xffff);
	at[32] = '-';
	*(u32 *)(at + 33) = hexadecimal(c >> 16);
	at[37] = '-';
	*(u32 *)(at + 38) = hexadecimal(c & 0xffff);
	*(u32 *)(at + 42) = hexadecimal(d >> 16);
	*(u32 *)(at + 46) = hexadecimal(d & 0xffff);
	*(u16 *)(at + 50) = CHARS2('\r', '\n');
}

/* Puts the lines before the head's empty line. False: the message is as it was. */
static __always_inline bool insert_lines(struct sk_msg_md *msg, const struct lines *lines,
	const struct arming *arming, struct flow *flow)
{
	u32 start = flow->head.length - 2, total = lines->total;
	u8 *at, *end;

	if (bpf_msg_push_data(msg, start, total, 0))
		return false;
	/* The inserted bytes are a piece of their own, so there is nothing to copy, and it cannot
	 * fail. */
	if (bpf_msg_pull_data(msg, start, start + total, 0))
		goto undo;
	at = (u8 *)(long)msg->data;
	end = (u8 *)(long)msg->data_end;
	for (u32 i = 0; i < MAX_FORWARDED_FOR_BYTES; i++) {
		if (i >= lines->forwarded_for)
			break;
		if (at + i + 1 > end)
			goto undo;
		at[i] = arming->forwarded_for[i];
	}
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
	return true;
undo:
	bpf_msg_pop_data(msg, start, total, 0);
	return false;
}

#endif
