/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is told of the requests that the kernel carried, and of those that it did not. */
#ifndef MESHD_UPCALLS_H
#define MESHD_UPCALLS_H

#include "stats.h"

static __always_inline void count_upcall(u32 service, enum upcall reason)
{
	struct upcall_row row = {.service = service, .reason = reason};
	u64 one = 1, *count;

	count = upcalls.lookup(&row);
	if (count)
		__sync_fetch_and_add(count, 1);
	else if (upcalls.update(&row, &one))
		COUNT(rows_full);
}

/* A message of the flow goes to the proxy. Whatever the reason seems to be: of a service without
 * rules nothing is ever carried.
 */
static __always_inline void note_upcall(struct flow *flow, enum upcall reason)
{
	struct service *service = services.lookup(&flow->destination);

	flow->upcalls++;
	if (service)
		count_upcall(service->id, service->rules ? reason : UPCALL_OFF);
}

/* The bucket of a duration: LATENCY_BUCKETS in meshd/model/wire.py. */
static __always_inline u32 latency_bucket(u64 ns)
{
	u64 us = ns / 1000;

	/* Half of what is carried ends in the first two. */
	if (us <= 500)
		return 0;
	if (us <= 1000)
		return 1;
	if (us <= 2500)
		return 2;
	if (us <= 5000)
		return 3;
	if (us <= 10000)
		return 4;
	if (us <= 25000)
		return 5;
	if (us <= 50000)
		return 6;
	if (us <= 100000)
		return 7;
	if (us <= 250000)
		return 8;
	if (us <= 500000)
		return 9;
	if (us <= 1000000)
		return 10;
	if (us <= 2500000)
		return 11;
	if (us <= 5000000)
		return 12;
	if (us <= 10000000)
		return 13;
	if (us <= 30000000)
		return 14;
	return 15;
}

static __always_inline void count_request(
	const struct flow *flow, const struct flow_key *key, u32 status, bool cancelled, u64 now)
{
	struct request_row row = {
		.rules = flow->rules,
		.netns = key->netns,
		.cluster = flow->cluster,
		.route = flow->route,
		.method = flow->head.method,
		.status = status,
		.cancelled = cancelled,
	};
	u64 ns = now - flow->began;
	struct request_count *count;

	count = requests.lookup(&row);
	if (!count) {
		u32 zero = 0;
		struct request_count *blank = blank_count.lookup(&zero);

		if (blank)
			requests.insert(&row, blank);
		count = requests.lookup(&row);
		if (!count) {
			COUNT(rows_full);
			return;
		}
	}
	__sync_fetch_and_add(&count->count, 1);
	__sync_fetch_and_add(&count->nanoseconds, ns);
	__sync_fetch_and_add(&count->bucket[latency_bucket(ns) & (LATENCY_BUCKETS - 1)], 1);
}

#endif
