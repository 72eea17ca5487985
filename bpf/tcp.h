/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What TCP itself counts. No UAPI context tells a program how much of what has come an app has
 * read, so these few fields are read from struct tcp_sock; the loader takes their offsets from the
 * running kernel's BTF (meshd/datapath/loading/compile.py).
 */
#ifndef MESHD_TCP_H
#define MESHD_TCP_H

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

static __always_inline bool is_empty(u64 list)
{
	u64 first = 0;

	return !bpf_probe_read_kernel(&first, sizeof(first), (void *)list) && first == list;
}

/* The flags in the lowest bits of sk_user_data (SK_USER_DATA_PTRMASK). */
#define USER_DATA_FLAGS 7ULL

/* Whether a socket of a map has read all that came to it, by TCP or redirected: both go through its
 * psock's queues. The caller holds its lock.
 */
static __always_inline bool all_read(struct bpf_sock *sk)
{
	void *tcp;
	u64 psock;

	if (!sk)
		return false;
	tcp = (void *)bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return false;
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(psock) : "r"(tcp), "i"(SOCK_SK_USER_DATA));
	psock &= ~USER_DATA_FLAGS;
	return psock && is_empty(psock + SK_PSOCK_INGRESS_MSG) &&
	       is_empty(psock + SK_PSOCK_INGRESS_SKB);
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

static __always_inline bool all_read(struct bpf_sock *sk)
{
	return false;
}

#endif
#endif
