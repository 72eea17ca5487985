/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What TCP itself counts. No UAPI context tells a program how much of what has come an app has
 * read, so these few fields are read from struct tcp_sock; the loader takes their offsets from the
 * running kernel's BTF (meshd/datapath/compile.py).
 */
#ifndef MESHD_TCP_H
#define MESHD_TCP_H

#include "types.h"

#ifdef TCP_SOCK_COPIED_SEQ

#define TCP_FIELD(tcp, offset)                                                                     \
	({                                                                                         \
		u32 value_;                                                                        \
		asm volatile("%0 = *(u32 *)(%1 + %2)" : "=r"(value_) : "r"(tcp), "i"(offset));     \
		value_;                                                                            \
	})

/* Three of a socket's counters, all mod 2^32. */
struct tcp_counts {
	u32 sent;     /* sequence number of the next byte that the app writes */
	u32 received; /* of the next byte that comes */
	u32 read;     /* of the next byte that the app reads */
};

/* False: not a full TCP socket. The caller holds its lock, as sk_msg programs do. */
static __always_inline bool tcp_counts(struct bpf_sock *sk, struct tcp_counts *counts)
{
	void *tcp;

	if (!sk)
		return false;
	tcp = (void *)bpf_skc_to_tcp_sock(sk); /* kernel 5.9 */
	if (!tcp)
		return false;
	counts->sent = TCP_FIELD(tcp, TCP_SOCK_WRITE_SEQ);
	counts->received = TCP_FIELD(tcp, TCP_SOCK_RCV_NXT);
	counts->read = TCP_FIELD(tcp, TCP_SOCK_COPIED_SEQ);
	return true;
}

#else /* a kernel without BTF: nothing is ever known to be read, so every request is an upcall */

struct tcp_counts {
	u32 sent;
	u32 received;
	u32 read;
};

static __always_inline bool tcp_counts(struct bpf_sock *sk, struct tcp_counts *counts)
{
	return false;
}

#endif
#endif
