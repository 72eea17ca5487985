// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Who calls splice(2): it does not see redirected bytes, so its caller had better not have any
 * (meshd/datapath/splicing/watch.py). SPLICE_CALL is its number on this architecture.
 */

/* clang-format off */
#define BPF_LICENSE Dual BSD/GPL
/* clang-format on */

/* process id -> how often it called. The oldest go when there are more. */
BPF_TABLE("lru_hash", u32, u64, callers, 256);

/* The raw tracepoint sys_enter, kernel 4.17: its arguments are registers and the call's number. */
int system_call(struct bpf_raw_tracepoint_args *ctx)
{
	u64 one = 1, *count;
	u32 process;

	if (ctx->args[1] != SPLICE_CALL)
		return 0;
	process = bpf_get_current_pid_tgid() >> 32;
	count = callers.lookup(&process);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		callers.update(&process, &one);
	return 0;
}
