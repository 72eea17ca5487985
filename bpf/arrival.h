/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Bytes that a socket of a map gets by TCP, each once. A segment that was lost may be sent again as
 * part of a longer one. Reading such a segment, TCP passes over what it had before; but an sk_skb
 * program is given all of it (tcp_read_skb, up to kernel 6.18 at least), and an app would get those
 * bytes twice.
 */
#ifndef MESHD_ARRIVAL_H
#define MESHD_ARRIVAL_H

#include "maps.h"

#ifdef SK_BUFF_CB

/* What bpf_skb_adjust_room takes away at a time, and how often: twice the longest segment. */
#define MAX_TRIM   0xfff
#define TRIM_TIMES 256

struct segment {
	u32 begin; /* sequence number of the first byte */
	u32 end;
};

/* Whether nothing comes after this segment. TCP closes a socket that has sent its own FIN when the
 * other end's comes, and passes on what came with that only then (tcp_data_queue).
 */
static __always_inline bool is_last(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk && sk->state == BPF_TCP_CLOSE;
}

/* Takes away what has come before. False: nothing is left, or it could not be taken away. */
static __always_inline bool trim(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct segment segment = {};
	u32 known, next, *seen;
	int i;

	/* TCP's control block begins with the two. */
	if (bpf_probe_read_kernel(&segment, sizeof(segment), (void *)skb + SK_BUFF_CB))
		return true;
	next = segment.begin + skb->len;
	seen = arrivals.lookup(&cookie);
	if (!seen) {
		if (!is_last(skb))
			arrivals.update(&cookie, &next);
		return true;
	}
	known = *seen - segment.begin;
	if ((s32)(next - *seen) > 0)
		*seen = next;
	if (is_last(skb))
		arrivals.delete(&cookie);
	if ((s32)known <= 0)
		return true;
	if (known >= skb->len)
		return false;
	for (i = 0; i < TRIM_TIMES && known; i++) {
		s32 step = known < MAX_TRIM ? known : MAX_TRIM;

		if (bpf_skb_adjust_room(skb, -step, 0, 0))
			return false;
		known -= step;
	}
	return !known;
}

#else /* a kernel without BTF: no socket is put into a map */

static __always_inline bool trim(struct __sk_buff *skb)
{
	return true;
}

#endif

/* A socket is closed. Bytes that came with the FIN that closed it have yet to be seen: see is_last.
 */
static __always_inline void forget_arrivals(struct bpf_sock_ops *ops)
{
	u64 cookie = bpf_get_socket_cookie(ops);
	u32 *seen = arrivals.lookup(&cookie);

	if (!seen || (ops->args[0] == BPF_TCP_FIN_WAIT2 && (s32)(ops->rcv_nxt - *seen) > 1))
		return;
	arrivals.delete(&cookie);
}

#endif
