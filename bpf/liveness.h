/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_LIVENESS_H
#define MESHD_LIVENESS_H

#include "maps.h"

/* Whether any proxy worker has beaten lately. The workers share the in-pod listeners, so one that
 * lives is enough.
 */
static __always_inline bool proxy_alive(const struct settings *config)
{
	u64 now = bpf_ktime_get_ns();

	for (u32 worker = 0; worker < MESHD_MAX_WORKERS; worker++) {
		u32 key = worker;
		u64 *beat = heartbeat.lookup(&key);

		/* Signed: a beat may be later than our reading of the clock. */
		if (beat && *beat && (s64)(now - *beat) < (s64)config->heartbeat_timeout_ns)
			return true;
	}
	return false;
}

#endif
