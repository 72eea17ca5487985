/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What becomes of the bytes that a server sends: carried to the client, or passed up to the proxy.
 */
#ifndef MESHD_RESPONSE_H
#define MESHD_RESPONSE_H

#include "bell.h"
#include "chunks.h"
#include "connection.h"
#include "divided.h"
#include "judged.h"
#include "response_head.h"
#include "spliced.h"
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
	note_read(&connection->redirected, sk, MESHD_MAX_REDIRECTED);
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

static __always_inline void upcall_response(
	struct connection *connection, struct flow *flow, enum response_state state)
{
	connection->response = state;
	note_upcall(flow, UPCALL_RESPONSE);
}

/* Reads the head at data. False: the proxy shall have the response. Else response and response_left
 * are what comes after the head.
 */
static __always_inline bool begin_response(
	struct connection *connection, const struct flow *flow, const u8 *data, const u8 *data_end)
{
	struct response_head *head = &connection->head;

	if (parse_response(data, data_end, head, flow->head.method == METHOD_HEAD) ||
		head->content_length > MESHD_MAX_RESPONSE_BODY)
		return false;
	connection->response_left = head->content_length;
	connection->response = RESPONSE_BODY;
	if (head->chunked)
		connection->response = RESPONSE_CHUNK_LINE;
	else if (!head->content_length)
		connection->response = RESPONSE_NONE;
	return true;
}

/* size more bytes of the response are on their way to the client, and connection->response is what
 * comes after them.
 */
static __always_inline void carried(struct connection *connection, struct flow *flow, u32 size)
{
	u64 now;

	if (!connection->carried) {
		flow->begun++;
		if (connection->judged)
			judge_answer(connection, flow);
	}
	connection->carried += size;
	flow->redirected += size + MESSAGE_OVERHEAD;
	if (connection->response != RESPONSE_NONE)
		return;
	now = bpf_ktime_get_ns();
	connection->last_used = now;
	count_request(flow, &connection->flow, connection->head.status, false, now);
	flow->responses++;
}

/* The client is closed. A request that was carried has its end by that, unless the proxy has
 * adopted it: then the proxy counts it. The entry in armed says so, and is gone before the flow's:
 * where the proxy finds none to write to, the request has been counted here.
 */
static __always_inline void cancel_request(struct bpf_sock_ops *ops)
{
	struct connection *connection;
	struct arming *arming;
	struct flow_key key;
	u32 status = 0, adopted;
	struct flow *flow;

	set_flow_key(&key, ops);
	flow = flows.lookup(&key);
	if (!flow)
		return;
	connection = connections.lookup(&flow->connection);
	if (connection && !same_flow(&connection->flow, &key))
		connection = NULL;
	/* Whoever takes it next would send to a server that waits for the rest of this request. */
	if (connection && flow->request_left)
		connection->place = PLACE_GONE;
	arming = armed.lookup(&key);
	if (!arming)
		return;
	adopted = arming->adopted;
	armed.delete(&key);
	if (flow->requests == flow->responses + adopted)
		return;
	if (connection && connection->carried)
		status = connection->head.status;
	count_request(flow, &key, status, true, bpf_ktime_get_ns());
}

/* How many of the size bytes of msg go to the client now. 0: none, and none of those after them. */
static __always_inline u32 next_piece(
	struct sk_msg_md *msg, struct connection *connection, const struct flow *flow, u32 size)
{
	enum response_state state = connection->response;
	struct chunk_piece piece;
	u32 pull, taken;

	if (state == RESPONSE_BODY || state == RESPONSE_CHUNK_DATA) {
		taken = size < connection->response_left ? size : connection->response_left;
		connection->response_left -= taken;
		if (!connection->response_left)
			connection->response =
				state == RESPONSE_BODY ? RESPONSE_NONE : RESPONSE_CHUNK_END;
		return taken;
	}
	pull = state == RESPONSE_HEAD ? MESHD_MAX_RESPONSE_HEAD : CHUNK_LOOK_AHEAD;
	if (pull > size)
		pull = size;
	if (bpf_msg_pull_data(msg, 0, pull, 0)) {
		connection->response = state == RESPONSE_HEAD ? RESPONSE_UPCALLED : RESPONSE_BROKEN;
		return 0;
	}
	if (state == RESPONSE_HEAD) {
		u64 length;

		if (!begin_response(connection, flow, (const u8 *)(long)msg->data,
			    (const u8 *)(long)msg->data_end)) {
			connection->response = RESPONSE_UPCALLED;
			return 0;
		}
		length = connection->head.length + connection->response_left;
		if (size >= length) {
			if (connection->response == RESPONSE_BODY)
				connection->response = RESPONSE_NONE;
			return length;
		}
		if (connection->response == RESPONSE_BODY)
			connection->response_left = length - size;
		return size;
	}
	read_chunk(&piece, (const u8 *)(long)msg->data, (const u8 *)(long)msg->data_end,
		state == RESPONSE_CHUNK_END, connection->carried);
	connection->response = piece.next;
	taken = piece.length;
	if (!piece.data)
		return taken;
	connection->response_left = piece.data;
	if (size - taken < piece.data) {
		connection->response_left = piece.data - (size - taken);
		connection->response = RESPONSE_CHUNK_DATA;
		return size;
	}
	return taken + piece.data;
}

/* The bytes from a server on this node that msg begins with. */
static __always_inline int from_server(struct sk_msg_md *msg)
{
	struct connection *connection;
	struct connection_key key = {};
	struct spliced_arming *splicing;
	struct flow *flow;
	u32 size = msg->size, taken;
	bool divided;

	SET_KEY_AT_SERVER(&key, msg);
	connection = connections.lookup(&key);
	if (!connection)
		return SK_PASS;
	note_received(connection, msg->sk);
	divided = connection->divided;
	connection->divided = 0;
	bpf_msg_apply_bytes(msg, 0); /* see from_client */
	if (!kernel_reads(connection)) {
		splicing = spliced_armed.lookup(&key);
		if (splicing)
			return from_spliced_server(msg, connection, splicing, &key, divided);
		connection->last_used = bpf_ktime_get_ns();
		return pass_back(msg, &key, divided);
	}
	flow = carried_flow(connection, &key);
	if (!flow)
		return pass_back(msg, &key, divided);
	taken = next_piece(msg, connection, flow, size);
	if (!taken) {
		upcall_response(connection, flow, connection->response);
		return pass_back(msg, &key, divided);
	}
	if (clients.msg_redirect_hash(msg, &connection->flow, BPF_F_INGRESS) != SK_PASS) {
		connection->response = RESPONSE_BROKEN;
		return pass_back(msg, &key, divided); /* the client has just gone */
	}
	if (taken < size) {
		bpf_msg_apply_bytes(msg, taken);
		connection->divided = 1;
		/* More than was asked for. The client has its answer at once, and its next request
		 * may not come here: the rest would pass for the answer to that.
		 */
		if (connection->response == RESPONSE_NONE)
			connection->place = PLACE_GONE;
	}
	carried(connection, flow, taken);
	return SK_PASS;
}

/* The bytes of msg stay on their way to U. */
static __always_inline int pass_remote(struct connection *connection, u32 size)
{
	connection->passed += size;
	return SK_PASS;
}

/* The same of an answer that the proxy has to take over from here on. */
static __always_inline int leave_to_proxy(struct connection *connection, struct connection_key *key,
	struct flow *flow, enum response_state state, u32 size)
{
	upcall_response(connection, flow, state);
	ring(key);
	return pass_remote(connection, size);
}

/* The bytes from a server on another node that have come to U. They go as a whole or not at all, so
 * an answer in chunks is the proxy's.
 */
static __always_inline int from_remote(struct __sk_buff *skb)
{
	struct connection *connection;
	struct connection_key key = {};
	u32 size = skb->len, pull;
	struct flow *flow;
	u64 left;

	SET_KEY_AT_PROXY(&key, skb);
	connection = connections.lookup(&key);
	if (!connection || !size)
		return SK_PASS;
	if (!kernel_reads(connection)) {
		connection->last_used = bpf_ktime_get_ns();
		return pass_remote(connection, size);
	}
	flow = carried_flow(connection, &key);
	if (!flow)
		return pass_remote(connection, size);
	left = connection->response_left;
	if (connection->response == RESPONSE_HEAD) {
		pull = size < MESHD_MAX_RESPONSE_HEAD ? size : MESHD_MAX_RESPONSE_HEAD;
		/* To a client that has sent its FIN the proxy's may come next. Redirected bytes
		 * that wait for room in the client's buffer are no part of TCP's stream: it would
		 * pass them, and the client take it for the answer's end.
		 */
		if (flow->ended || bpf_skb_pull_data(skb, pull) ||
			!begin_response(connection, flow, (const u8 *)(long)skb->data,
				(const u8 *)(long)skb->data_end))
			return leave_to_proxy(connection, &key, flow, RESPONSE_UPCALLED, size);
		left = connection->head.length + connection->response_left;
		if (connection->head.chunked || size > left ||
			connection->response_left > MESHD_MAX_REMOTE_RESPONSE_BODY)
			return leave_to_proxy(connection, &key, flow, RESPONSE_UPCALLED, size);
	} else if (size > left) { /* more than was announced */
		return leave_to_proxy(connection, &key, flow, RESPONSE_BROKEN, size);
	}
	if (clients.sk_redirect_hash(skb, &connection->flow, BPF_F_INGRESS) != SK_PASS) {
		connection->response = RESPONSE_BROKEN;
		return pass_remote(connection, size); /* the client has just gone */
	}
	connection->response_left = left - size;
	connection->response = left > size ? RESPONSE_BODY : RESPONSE_NONE;
	carried(connection, flow, size);
	return SK_PASS;
}

#endif
