/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent, who ejects endpoints by their answers, is told of those that the kernel carries.
 * Good ones are counted, and read when it judges. Bad ones are told at once, each with the good
 * ones before it, so that it knows which came in a row.
 */
#ifndef MESHD_JUDGED_H
#define MESHD_JUDGED_H

#include "maps.h"
#include "stats.h"

static __always_inline void set_judged(
	struct judged_endpoint *key, u64 cluster, const struct connection_key *connection)
{
	key->cluster = cluster;
	key->address = connection->server;
	key->zero = 0;
}

/* Whether the agent has entered the endpoint at the other end of a connection. */
static __always_inline bool is_judged(u64 cluster, const struct connection_key *connection)
{
	struct judged_endpoint key;

	set_judged(&key, cluster, connection);
	return judged.lookup(&key) != NULL;
}

/* The head of an answer is on its way to the client. */
static __always_inline void judge_answer(
	const struct connection *connection, const struct flow *flow)
{
	u64 ns = bpf_ktime_get_ns() - flow->began;
	u32 status = connection->head.status;
	struct bad_answer bad = {};
	struct good_answers *good;
	int agent = AGENT_BELL;
	void *bell;

	set_judged(&bad.from, flow->cluster, &flow->connection);
	good = judged.lookup(&bad.from);
	if (!good)
		return; /* it is the cluster's no more */
	if (status < 500) {
		__sync_fetch_and_add(&good->count, 1);
		__sync_fetch_and_add(&good->nanoseconds, ns);
		return;
	}
	bad.good = good->count;
	bad.nanoseconds = ns;
	bad.status = status;
	bell = bells.lookup(&agent);
	if (!bell || bpf_ringbuf_output(bell, &bad, sizeof(bad), 0))
		COUNT(answers_unheard);
}

#endif
