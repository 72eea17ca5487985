/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_TYPES_SPLICE_READER_H
#define MESHD_TYPES_SPLICE_READER_H

/* A socket that a process read by splice(2). */
struct splice_reader {
	__u64 inode; /* as in /proc/PID/fd */
	__u32 process;
	__u32 zero;
};

#endif
