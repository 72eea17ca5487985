/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of the bytes that a server sends: carried to the client, or passed up to the proxy.
 */
#ifndef MESHD_RESPONSE_H
#define MESHD_RESPONSE_H

#include "connection.h"
#include "http_head.h"
#include "tcp.h"
#include "upcalls.h"

/* Notes how far the server has got with what the proxy sent it. */
static __always_inline void note_received(struct connection *connection, struct bpf_sock *sk)
{
	struct tcp_counts tcp;

	if (!tcp_counts(sk, &tcp)) {
		connection->unread = 1;
		return;
	}
	connection->received = tcp.received - connection->first_to_server;
	connection->unread = tcp.read != tcp.received;
}

static __always_inline bool same_end(const struct address_port *a, const struct address_port *b)
{
	return a->address[3] == b->address[3] && a->port == b->port &&
	       a->address[2] == b->address[2] && a->address[1] == b->address[1] &&
	       a->address[0] == b->address[0];
}

/* The flow whose request this connection carries. NULL: its client is gone, even if another one has
 * come with the same address and port, and the proxy is about to close the connection.
 */
static __always_inline struct flow *carried_flow(
	struct connection *connection, const struct connection_key *key)
{
	struct flow *flow = flows.lookup(&connection->flow);

	if (!flow || !same_end(&flow->connection.proxy, &key->proxy) ||
		!same_end(&flow->connection.server, &key->server) ||
		flow->requests == flow->responses)
		return NULL;
	return flow;
}

/* Reads the head that size bytes begin with. Returns the length of the whole response, or 0: the
 * proxy shall have it.
 */
static __always_inline u64 begin_response(
	struct connection *connection, const struct flow *flow, const u8 *data, const u8 *data_end)
{
	struct response_head *head = &connection->head;

	if (parse_response(data, data_end, head, flow->head.method == METHOD_HEAD) ||
		head->content_length > MESHD_MAX_RESPONSE_BODY)
		return 0;
	return head->length + head->content_length;
}

static __always_inline void upcall_response(struct connection *connection, struct flow *flow)
{
	struct service *service = services.lookup(&flow->destination);

	connection->response = RESPONSE_UPCALLED;
	flow->upcalls++;
	if (service)
		count_upcall(service->id, UPCALL_RESPONSE);
}

/* size more bytes of the response are on their way to the client. */
static __always_inline void carried(struct connection *connection, struct flow *flow, u32 size)
{
	u64 now;

	connection->response_left -= size;
	if (connection->response_left) {
		connection->response = RESPONSE_BODY;
		return;
	}
	now = bpf_ktime_get_ns();
	connection->response = RESPONSE_NONE;
	connection->last_used = now;
	count_request(flow, &connection->flow, connection->head.status, now);
	flow->responses++;
}

/* The bytes from a server on this node that msg begins with. */
static __always_inline int from_server(struct sk_msg_md *msg)
{
	struct connection *connection;
	struct connection_key key = {};
	struct flow *flow;
	u64 left;
	u32 size = msg->size;

	SET_REMOTE(&key.proxy, msg);
	SET_LOCAL(&key.server, msg);
	connection = connections.lookup(&key);
	if (!connection)
		return SK_PASS;
	note_received(connection, msg->sk);
	if (connection->response != RESPONSE_HEAD && connection->response != RESPONSE_BODY) {
		connection->last_used = bpf_ktime_get_ns();
		return SK_PASS;
	}
	flow = carried_flow(connection, &key);
	if (!flow)
		return SK_PASS;
	left = connection->response_left;
	if (connection->response == RESPONSE_HEAD) {
		u32 pull = size < MESHD_MAX_RESPONSE_HEAD ? size : MESHD_MAX_RESPONSE_HEAD;

		left = 0;
		if (!bpf_msg_pull_data(msg, 0, pull, 0))
			left = begin_response(connection, flow, (const u8 *)(long)msg->data,
				(const u8 *)(long)msg->data_end);
		if (!left) {
			upcall_response(connection, flow);
			return SK_PASS;
		}
	}
	if (clients.msg_redirect_hash(msg, &connection->flow, BPF_F_INGRESS) != SK_PASS)
		return SK_PASS;
	if (size > left) {
		size = left;
		bpf_msg_apply_bytes(msg, size);
	}
	connection->response_left = left;
	carried(connection, flow, size);
	return SK_PASS;
}

/* The bytes from a server on another node that have come to U. They go as a whole or not at all. */
static __always_inline int from_remote(struct __sk_buff *skb)
{
	struct connection *connection;
	struct connection_key key = {};
	struct flow *flow;
	u32 size = skb->len;
	u64 left;

	SET_LOCAL(&key.proxy, skb);
	SET_REMOTE(&key.server, skb);
	connection = connections.lookup(&key);
	if (!connection)
		return SK_PASS;
	if (connection->response != RESPONSE_HEAD && connection->response != RESPONSE_BODY) {
		connection->last_used = bpf_ktime_get_ns();
		return SK_PASS;
	}
	flow = carried_flow(connection, &key);
	if (!flow || !size)
		return SK_PASS;
	left = connection->response_left;
	if (connection->response == RESPONSE_HEAD) {
		u32 pull = size < MESHD_MAX_RESPONSE_HEAD ? size : MESHD_MAX_RESPONSE_HEAD;

		left = 0;
		if (!bpf_skb_pull_data(skb, pull))
			left = begin_response(connection, flow, (const u8 *)(long)skb->data,
				(const u8 *)(long)skb->data_end);
		if (!left || size > left) {
			upcall_response(connection, flow);
			return SK_PASS;
		}
	} else if (size > left) {
		return SK_PASS; /* more than was announced: the proxy cuts both off */
	}
	if (clients.sk_redirect_hash(skb, &connection->flow, BPF_F_INGRESS) != SK_PASS)
		return SK_PASS;
	connection->response_left = left;
	carried(connection, flow, size);
	return SK_PASS;
}

#endif
