/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_STATS_H
#define MESHD_STATS_H

#include "maps.h"

static __always_inline struct stats *own_stats(void)
{
	u32 zero = 0;

	return stats.lookup(&zero);
}

/* Atomic although per CPU: softirq may interrupt a program that runs in task context. */
#define COUNT(counter)                                                                             \
	do {                                                                                       \
		struct stats *stats_ = own_stats();                                                \
		if (stats_)                                                                        \
			__sync_fetch_and_add(&stats_->counter, 1);                                 \
	} while (0)

#endif
