// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The lab's mode node-proxy-sockmap (meshd/lab/envoys/legs.py): the two legs between a pod's
 * sockets and its node's Envoy, without TCP in between. Opaque: what is sent into the one socket
 * goes into the queue of the other, as Cilium had it. One instance a node, attached to the node's
 * cgroup alone.
 *
 * Each end of a leg has the other's addresses swapped, for TPROXY leaves them as they are. Which
 * addresses are on this node, the loader says: PODS4, PODS6_HIGH, PODS6_LOW (the first 24 and 64
 * bits of the pods' ranges), SERVICES4, SERVICES6_HIGH, SERVICES6_LOW (16 and 64, of the services')
 * in host order. The node itself is the first address of the pods' ranges.
 */

/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

#include "address.h"
#include "tcp.h"

#define MAX_ENDS 32768

/* Of all maps of the datapath arrival.h uses one, and this unit is not to make the others. */
#define MESHD_MAPS_H
BPF_TABLE("lru_hash", u64, u32, arrivals, MAX_ENDS);

#include "arrival.h"

#define NODE	  1 /* the last bits of the node's own addresses */
#define V4_PODS	  bpf_htonl(0xffffff00)
#define V4_SHARED bpf_htonl(0xffff0000)

/* One end's progress. Each field has one writer: the end's own sk_msg program, under its lock. */
struct progress {
	u32 read; /* sequence number of the next byte that its app reads, when it sent last */
	u32 redirecting; /* 1: what it sends goes to the other end by itself */
};

/* an end -> its socket, whose queue the other end writes to. */
BPF_SOCKHASH(sockets, struct ends, MAX_ENDS);

/* an end -> its progress. */
BPF_TABLE("lru_hash", struct ends, struct progress, progresses, MAX_ENDS);

static __always_inline bool is_node(const struct address_port *a)
{
	if (is_ipv4(a))
		return a->address[3] == bpf_htonl(PODS4 | NODE);
	return a->address[0] == bpf_htonl(PODS6_HIGH) && a->address[1] == bpf_htonl(PODS6_LOW) &&
	       a->address[2] == 0 && a->address[3] == bpf_htonl(NODE);
}

static __always_inline bool is_service(const struct address_port *a)
{
	if (is_ipv4(a))
		return (a->address[3] & V4_SHARED) == bpf_htonl(SERVICES4);
	return a->address[0] == bpf_htonl(SERVICES6_HIGH) &&
	       a->address[1] == bpf_htonl(SERVICES6_LOW);
}

static __always_inline bool is_pod(const struct address_port *a)
{
	if (is_ipv4(a))
		return (a->address[3] & V4_PODS) == bpf_htonl(PODS4);
	return a->address[0] == bpf_htonl(PODS6_HIGH) && a->address[1] == bpf_htonl(PODS6_LOW);
}

/* Between a pod of this node and its Envoy: from the pod's side it calls a service, or is called by
 * the node.
 */
static __always_inline bool is_leg(const struct ends *ends)
{
	const struct address_port *a = &ends->local, *b = &ends->remote;

	return (is_pod(a) && (is_service(b) || is_node(b))) ||
	       (is_pod(b) && (is_service(a) || is_node(a)));
}

static __always_inline void enrol(struct bpf_sock_ops *ops)
{
	struct progress progress = {.read = ops->rcv_nxt};
	struct ends ends = {};
	long failed;

	SET_LOCAL(&ends.local, ops);
	SET_REMOTE(&ends.remote, ops);
	if (!is_leg(&ends))
		return;
	failed = sockets.sock_hash_update(ops, &ends, BPF_ANY);
	if (failed)
		return;
	progresses.update(&ends, &progress);
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

/* The kernel takes the socket itself out of its map. */
static __always_inline void forget(struct bpf_sock_ops *ops)
{
	struct ends ends = {};

	SET_LOCAL(&ends.local, ops);
	SET_REMOTE(&ends.remote, ops);
	progresses.delete(&ends);
	forget_arrivals(ops);
}

/* sock_ops: a connection is made, or ends. */
int leg_ops(struct bpf_sock_ops *ops)
{
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		enrol(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_CLOSE)
			forget(ops);
		break;
	}
	return 1;
}

/* sk_msg: an end sends. When it begins before the other end is known, its first bytes go by TCP.
 * From TCP it changes over only when the other app has read all of those, for what is redirected
 * would overtake what is still on its way.
 */
int leg_msg(struct sk_msg_md *msg)
{
	struct progress *own, *other;
	struct tcp_counts counts;
	struct ends ends = {};
	long verdict;

	SET_LOCAL(&ends.local, msg);
	SET_REMOTE(&ends.remote, msg);
	own = progresses.lookup(&ends);
	if (!own || !tcp_counts(msg->sk, &counts))
		return SK_PASS;
	own->read = counts.read;
	SET_LOCAL(&ends.remote, msg);
	SET_REMOTE(&ends.local, msg);
	if (!own->redirecting) {
		other = progresses.lookup(&ends);
		if (!other || other->read != counts.sent)
			return SK_PASS;
	}
	/* Not its own answer: at a miss that is SK_DROP, which the app gets as an error. */
	verdict = sockets.msg_redirect_hash(msg, &ends, BPF_F_INGRESS);
	own->redirecting = verdict == SK_PASS;
	return SK_PASS;
}

/* sk_skb: bytes have come by TCP, and stay. That there is a program makes them join the queue of
 * the redirected ones (see bpf/meshd.c, arrived).
 */
int leg_arrived(struct __sk_buff *skb)
{
	return trim(skb) ? SK_PASS : SK_DROP;
}
