// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The programs. Each unpacks its context, calls a decision and packs the answer. */

/* bcc puts this into the license section: some helpers are for GPL-compatible programs only. The
 * kernel compares it to the letter, so no blanks around the slash.
 */
/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#include "address.h"
#include "capture.h"
#include "flow.h"
#include "maps.h"

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

/* sock_ops: a captured connection is made, or ends. */
int sock_ops(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		open_flow(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_CLOSE)
			close_flow(ops);
		break;
	}
	return 1;
}

/* sk_msg: an enrolled socket sends. Every message takes the proxy's way. */
int sk_msg(struct sk_msg_md *msg)
{
	return SK_PASS;
}
