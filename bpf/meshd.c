// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The programs. Each unpacks its context, calls a decision and packs the answer. */

/* bcc puts this into the license section: some helpers are for GPL-compatible programs only. The
 * kernel compares it to the letter, so no blanks around the slash.
 */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#include "address.h"
#include "arrival.h"
#include "capture.h"
#include "connection.h"
#include "flow.h"
#include "joined.h"
#include "maps.h"
#include "request.h"
#include "response.h"
#include "splice_reader.h"

#define ALLOW  1
#define REJECT 0

static __always_inline int refuse(void)
{
	bpf_set_retval(-ECONNREFUSED); /* kernel 5.18 */
	return REJECT;
}

/* cgroup/connect4: an IPv4 socket connects. */
int connect4(struct bpf_sock_addr *ctx)
{
	struct address_port destination;

	set_ipv4(&destination, ctx->user_ip4, bpf_ntohs(ctx->user_port));
	switch (capture(ctx, &destination)) {
	case REWRITE:
		ctx->user_ip4 = destination.address[3];
		ctx->user_port = bpf_htons(destination.port);
		return ALLOW;
	case REFUSE:
		return refuse();
	default:
		return ALLOW;
	}
}

/* cgroup/connect6: an IPv6 socket connects, to IPv6 or, v4-mapped, to IPv4. */
int connect6(struct bpf_sock_addr *ctx)
{
	struct address_port destination = {
		.address = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]},
		.port = bpf_ntohs(ctx->user_port),
	};

	switch (capture(ctx, &destination)) {
	case REWRITE:
		ctx->user_ip6[0] = destination.address[0];
		ctx->user_ip6[1] = destination.address[1];
		ctx->user_ip6[2] = destination.address[2];
		ctx->user_ip6[3] = destination.address[3];
		ctx->user_port = bpf_htons(destination.port);
		return ALLOW;
	case REFUSE:
		return refuse();
	default:
		return ALLOW;
	}
}

static __always_inline struct origin *asked_for(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk ? origins.sk_storage_get(sk, 0, 0) : NULL;
}

/* cgroup/getpeername4: the app sees the address that it connected to. */
int getpeername4(struct bpf_sock_addr *ctx)
{
	struct origin *origin = asked_for(ctx);

	if (origin) {
		ctx->user_ip4 = origin->destination.address[3];
		ctx->user_port = bpf_htons(origin->destination.port);
	}
	return ALLOW;
}

/* cgroup/getpeername6 */
int getpeername6(struct bpf_sock_addr *ctx)
{
	struct origin *origin = asked_for(ctx);

	if (origin) {
		ctx->user_ip6[0] = origin->destination.address[0];
		ctx->user_ip6[1] = origin->destination.address[1];
		ctx->user_ip6[2] = origin->destination.address[2];
		ctx->user_ip6[3] = origin->destination.address[3];
		ctx->user_port = bpf_htons(origin->destination.port);
	}
	return ALLOW;
}

/* sock_ops: a connection is made, or ends. */
int sock_ops(struct bpf_sock_ops *ops)
{
	struct origin *origin;

	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		origin = captured_origin(ops);
		if (origin) {
			open_flow(ops, origin);
		} else {
			open_connection(ops);
			join_client(ops);
		}
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		join_connection(ops);
		join_server(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[0] == BPF_TCP_ESTABLISHED) {
			leave_connection(ops);
			if (captured_origin(ops))
				end_flow(ops);
		}
		if (ops->args[1] != BPF_TCP_CLOSE)
			break;
		forget_arrivals(ops);
		forget_end(ops);
		if (captured_origin(ops)) {
			cancel_request(ops);
			close_flow(ops);
		} else {
			close_connection(ops);
		}
		break;
	}
	return 1;
}

/* sk_msg of the clients map: an app sends a request, or some of one. */
int client_msg(struct sk_msg_md *msg)
{
	return from_client(msg);
}

/* sk_msg of the servers map: an app sends an answer, or some of one. */
int server_msg(struct sk_msg_md *msg)
{
	return from_server(msg);
}

/* sk_msg of the joined map: an end of an opaque connection sends. */
int joined_msg(struct sk_msg_md *msg)
{
	return from_joined(msg);
}

/* sk_skb of the clients, servers and joined maps: bytes have come by TCP, and stay. That there is a
 * program at all makes them join the queue of the redirected ones. Without it a socket has two
 * queues, of which it reads the redirected one first, and its FIONREAD counts one alone (kernels
 * since 6.6.128, 6.12.75 and 6.18.14).
 */
int arrived(struct __sk_buff *skb)
{
	return trim(skb) ? SK_PASS : SK_DROP;
}

/* sk_skb of the upstreams map: an answer has come from another node. */
int remote_answer(struct __sk_buff *skb)
{
	return trim(skb) ? from_remote(skb) : SK_DROP;
}

/* The raw tracepoint tcp_rcv_space_adjust: a TCP socket is read. In the reader's context. */
int tcp_read(struct bpf_raw_tracepoint_args *ctx)
{
	struct splice_reader key = {.inode = splice_read_inode(ctx->args[0])};
	u64 now;

	if (!key.inode)
		return 0;
	key.process = bpf_get_current_pid_tgid() >> 32;
	now = bpf_ktime_get_ns();
	if (!splice_readers.insert(
		    &key, &now)) /* else the agent knows of it and has not looked yet */
		ring_for_splice_reader(&key);
	return 0;
}
