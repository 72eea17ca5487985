/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a worker hears of a connection to another node that needs it. While the kernel carries on
 * such a connection, the worker does not listen to its socket (U): each answer that is redirected
 * from it to the client would wake the worker for nothing (sk_psock_verdict_data_ready).
 */
#ifndef MESHD_BELL_H
#define MESHD_BELL_H

#include "maps.h"
#include "stats.h"

/* Its worker has something to do on the connection. Where there is no room for the event, the
 * worker finds it in its next sweep.
 */
static __always_inline void ring(struct connection_key *key)
{
	u32 *owner = owners.lookup(key);
	void *bell;
	int worker;

	if (!owner)
		return; /* the kernel was never to carry on it: its worker listens */
	worker = *owner;
	bell = bells.lookup(&worker);
	if (!bell || bpf_ringbuf_output(bell, key, sizeof(*key), 0))
		COUNT(bells_full);
}

/* The agent has something to see to in splice_readers. */
static __always_inline void ring_for_splice_reader(struct splice_reader *socket)
{
	int place = SPLICE_BELL;
	void *bell = bells.lookup(&place);

	if (bell)
		bpf_ringbuf_output(bell, socket, sizeof(*socket), 0);
}

#endif
