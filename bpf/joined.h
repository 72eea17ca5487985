/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opaque TCP between two workloads of this node that ask for it: what one end sends goes into the
 * other's queue, without TCP in between. That can begin, end and begin again at any message:
 *
 * - From TCP an end changes over when the other's app has read all that went by TCP; that is known
 *   from what the other noted when it last sent. Else what is redirected could overtake it.
 * - To TCP it goes back at once, as both come into one queue (see arrived in bpf/meshd.c): when the
 *   other end has more unread than MESHD_MAX_REDIRECTED, or the fast path is off for either.
 *
 * The handshake, FIN and RST are TCP's in any case.
 */
#ifndef MESHD_JOINED_H
#define MESHD_JOINED_H

#include "flow.h"
#include "tcp.h"

static __always_inline bool may_join(const struct member *member)
{
	return member &&
	       (member->flags & (MEMBER_FAST_PATH | MEMBER_JOINS_NOT)) == MEMBER_FAST_PATH;
}

/* Whether a client's connection to an endpoint is to be joined. */
static __always_inline bool wants_joining(const struct settings *config,
	const struct member *member, const struct service *service,
	const struct address_port *endpoint)
{
	struct home_address address;
	u64 *home, netns;

	if (!config->fast_path || !may_join(member) ||
		!(service->joined || member->flags & MEMBER_JOINS))
		return false;
	__builtin_memcpy(&address, endpoint->address, sizeof(address));
	home = homes.lookup(&address);
	if (!home)
		return false;
	netns = *home;
	return may_join(members.lookup(&netns));
}

static __always_inline bool may_still_join(u64 netns)
{
	return may_join(members.lookup(&netns));
}

#define SET_ENDS(ends, ctx)                                                                        \
	do {                                                                                       \
		SET_LOCAL(&(ends)->local, ctx);                                                    \
		SET_REMOTE(&(ends)->remote, ctx);                                                  \
	} while (0)

#define SET_OTHER_ENDS(ends, ctx)                                                                  \
	do {                                                                                       \
		SET_LOCAL(&(ends)->remote, ctx);                                                   \
		SET_REMOTE(&(ends)->local, ctx);                                                   \
	} while (0)

/* An end is established. False: it stays with TCP alone. An entry that is there is of another
 * connection, whatever addresses somebody has given himself.
 */
static __always_inline bool enrol_end(struct bpf_sock_ops *ops)
{
	struct joined_end end = {
		.netns = bpf_get_netns_cookie(ops),
		.first_sent = ops->snd_nxt,
		.first_received = ops->rcv_nxt,
		.read = ops->rcv_nxt,
	};
	struct ends ends = {};
	int error;

	if (!may_still_join(end.netns))
		return false;
	SET_ENDS(&ends, ops);
	if (joined_ends.insert(&ends, &end))
		return false;
	error = joined.sock_hash_update(ops, &ends, BPF_NOEXIST);
	if (error) {
		joined_ends.delete(&ends);
		COUNT(enrol_failed);
		return false;
	}
	COUNT(enrolled);
	COUNT(ends_opened);
	watch_states(ops);
	return true;
}

/* The client's end is established, and the server's not yet. */
static __always_inline void join_client(struct bpf_sock_ops *ops)
{
	struct bpf_sock *sk = ops->sk;
	struct origin *origin;

	if (!sk || !fast_path_settings())
		return;
	origin = origins.sk_storage_get(sk, 0, 0);
	if (origin && origin->joined)
		enrol_end(ops);
}

/* The server's end is established. It belongs to the client's if both agree about two random 32-bit
 * numbers.
 */
static __always_inline void join_server(struct bpf_sock_ops *ops)
{
	struct joined_end *client;
	struct ends ends = {};

	if (!fast_path_settings())
		return;
	SET_OTHER_ENDS(&ends, ops);
	client = joined_ends.lookup(&ends);
	if (!client || client->first_sent != ops->rcv_nxt || client->first_received != ops->snd_nxt)
		return;
	if (enrol_end(ops))
		COUNT(joined);
}

/* An end is closed. The kernel takes the socket out of its map itself. A socket of another
 * namespace may have had the same addresses.
 */
static __always_inline void forget_end(struct bpf_sock_ops *ops)
{
	struct joined_end *end;
	struct ends ends = {};

	SET_ENDS(&ends, ops);
	end = joined_ends.lookup(&ends);
	if (end && end->netns == bpf_get_netns_cookie(ops) && !joined_ends.delete(&ends))
		COUNT(ends_closed);
}

/* Whether the next bytes may go into the other end's queue. */
static __always_inline bool may_redirect(
	const struct joined_end *own, const struct joined_end *other, u32 sent)
{
	u32 waiting = own->redirected - other->emptied;

	if (waiting >= MESHD_MAX_REDIRECTED) {
		if (own->redirecting)
			COUNT(join_lagged);
		return false;
	}
	if (!own->redirecting && other->read != sent)
		return false;
	return fast_path_settings() && may_still_join(own->netns) && may_still_join(other->netns);
}

/* An end sends. */
static __always_inline int from_joined(struct sk_msg_md *msg)
{
	struct joined_end *own, *other;
	struct tcp_counts counts;
	struct ends ends = {};
	long verdict;

	SET_ENDS(&ends, msg);
	own = joined_ends.lookup(&ends);
	if (!own || !tcp_counts(msg->sk, &counts))
		return SK_PASS;
	own->read = counts.read;
	SET_OTHER_ENDS(&ends, msg);
	other = joined_ends.lookup(&ends);
	if (!other) {
		own->redirecting = 0;
		return SK_PASS;
	}
	/* Half the bound: an end that only answers looks before the other one has to stop. */
	if (other->redirected - own->emptied >= MESHD_MAX_REDIRECTED / 2) {
		u32 redirected = other->redirected;

		if (all_read(msg->sk))
			own->emptied = redirected;
	}
	if (!may_redirect(own, other, counts.sent)) {
		own->redirecting = 0;
		return SK_PASS;
	}
	/* Not its own answer: at a miss that is SK_DROP, which the app gets as an error. */
	verdict = joined.msg_redirect_hash(msg, &ends, BPF_F_INGRESS);
	own->redirecting = verdict == SK_PASS;
	if (own->redirecting)
		own->redirected += msg->size + MESSAGE_OVERHEAD;
	return SK_PASS;
}

#endif
