/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Who reads by splice(2). It takes bytes from TCP's own queue alone, and so never sees what is in
 * that of a sockmap: its caller would wait for ever.
 *
 * No program is called for splice(2) itself. But whenever a socket is read, by whatever call and
 * with whatever result, TCP considers how much room it gives to its peer, and has a tracepoint
 * there. It costs a read of a TCP socket 13 ns, one of a socket in a map some 60 (how that was
 * measured: docs/fast-path.md), and other system calls nothing.
 */
#ifndef MESHD_SPLICE_READER_H
#define MESHD_SPLICE_READER_H

#include "tcp.h"

#ifdef PT_REGS_CALL

/* PF_IO_WORKER (linux/sched.h): io_uring lets such a thread splice, and hardly ever read. */
#define IO_WORKER 0x10

static __always_inline u64 kernel_word(u64 at)
{
	u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), (void *)at);
	return word;
}

/* Whether the running task is in a call of splice(2). */
static __always_inline bool in_splice(void)
{
	void *task = (void *)bpf_get_current_task_btf();  /* kernel 5.11 */
	void *registers = (void *)bpf_task_pt_regs(task); /* kernel 5.15 */

	return TCP_FIELD(registers, PT_REGS_CALL) == SPLICE_CALL ||
	       TCP_FIELD(task, TASK_STRUCT_FLAGS) & IO_WORKER;
}

/* The inode number of a socket that is in a map of sockets and is being read by splice(2). 0: one
 * of the two is not so.
 */
static __always_inline u64 splice_read_inode(u64 sk)
{
	u64 socket;

	if (!(kernel_word(sk + SOCK_SK_USER_DATA) & ~USER_DATA_FLAGS) || !in_splice())
		return 0;
	socket = kernel_word(sk + SOCK_SK_SOCKET);
	return socket ? kernel_word(socket + SOCKET_ALLOC_VFS_INODE + INODE_I_INO) : 0;
}

#else /* a kernel without BTF: no socket is put into a map */

static __always_inline u64 splice_read_inode(u64 sk)
{
	return 0;
}

#endif
#endif
