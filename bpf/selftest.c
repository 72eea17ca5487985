// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The self-test's own programs (meshd/datapath/selftest/run.py): what the fast path asks of the
 * kernel, without any of its decisions.
 */

/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#include "splice_reader.h"
#include "tcp.h"

#define MAX_SOCKETS 64

/* Both ends' ports, own << 32 | peer's -> the socket. Of "queued" the arrived program makes one
 * queue of redirected bytes and of those that come by TCP, as in the clients and servers maps.
 */
BPF_SOCKHASH(queued, u64, MAX_SOCKETS);
BPF_SOCKHASH(bare, u64, MAX_SOCKETS);

/* socket -> that whose queue gets what it sends; no entry: by TCP. */
BPF_HASH(targets, u64, u64, MAX_SOCKETS);

/* socket -> eight bytes that are put behind each message that is redirected; no entry: none. */
BPF_HASH(endings, u64, u64, MAX_SOCKETS);

/* 0, 1, 2 -> sent, received and read, as of the socket that sent last; 3 -> 1 if they are known. */
BPF_ARRAY(counters, u32, 4);

/* 0 -> the inode of the enrolled socket that was read by splice(2) last. */
BPF_ARRAY(spliced, u64, 1);

static __always_inline u64 ends(struct sk_msg_md *msg)
{
	return (u64)msg->local_port << 32 | bpf_ntohl(msg->remote_port);
}

static __always_inline void set_counter(u32 at, u32 value)
{
	counters.update(&at, &value);
}

static __always_inline u64 *sending(struct sk_msg_md *msg)
{
	u64 key = ends(msg);
	struct tcp_counts counts = {};
	u32 known;

	known = tcp_counts(msg->sk, &counts);
	set_counter(0, counts.sent);
	set_counter(1, counts.received);
	set_counter(2, counts.read);
	set_counter(3, known);
	return targets.lookup(&key);
}

/* As insert_lines does with a request that has no body. Older kernels refuse to push behind a
 * message's last byte (bpf_msg_push_data, mended in 6.13).
 */
static __always_inline void append_ending(struct sk_msg_md *msg)
{
	u64 key = ends(msg), *ending = endings.lookup(&key), *at;
	u32 size = msg->size;

	if (!ending || bpf_msg_push_data(msg, size, sizeof(*ending), 0) ||
		bpf_msg_pull_data(msg, size, size + sizeof(*ending), 0))
		return;
	at = (u64 *)(long)msg->data;
	if (at + 1 <= (u64 *)(long)msg->data_end)
		*at = *ending;
}

int queued_msg(struct sk_msg_md *msg)
{
	u64 *found = sending(msg), target;

	if (!found)
		return SK_PASS;
	target = *found;
	append_ending(msg);
	queued.msg_redirect_hash(msg, &target, BPF_F_INGRESS);
	return SK_PASS;
}

int bare_msg(struct sk_msg_md *msg)
{
	u64 *found = sending(msg), target;

	if (!found)
		return SK_PASS;
	target = *found;
	append_ending(msg);
	bare.msg_redirect_hash(msg, &target, BPF_F_INGRESS);
	return SK_PASS;
}

int arrived(struct __sk_buff *skb)
{
	return SK_PASS;
}

int tcp_read(struct bpf_raw_tracepoint_args *ctx)
{
	u64 inode = splice_read_inode(ctx->args[0]);
	u32 zero = 0;

	if (inode)
		spliced.update(&zero, &inode);
	return 0;
}
